-- What policies may rule besides their lease, what devices count, when the reaper rests, and a trail in partitions.

-- The rules that SQL never looks at, as `Rules` of shared/licensing/model.py writes them: none are all defaults.
ALTER TABLE policy ADD COLUMN rules jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(rules) = 'object');
ALTER TABLE policy ADD CONSTRAINT policy_floating_lease CHECK (kind = 'node_locked' OR lease_s <= 86400) NOT VALID;

-- What was counted in the license's current hour of activations and its current year of releases.
ALTER TABLE license
    ADD COLUMN activations_began_at timestamptz,
    ADD COLUMN activations_count integer NOT NULL DEFAULT 0,
    ADD COLUMN releases_began_at timestamptz,
    ADD COLUMN releases_count integer NOT NULL DEFAULT 0;

-- The highest count of its heartbeats that a device told of, and the end of the offline file that it holds.
ALTER TABLE device
    ADD COLUMN counter bigint NOT NULL DEFAULT 0 CHECK (counter BETWEEN 0 AND 4294967295),
    ADD COLUMN clone_suspected_at timestamptz,
    ADD COLUMN offline_until timestamptz;

GRANT UPDATE (expires_at, activations_began_at, activations_count, releases_began_at, releases_count) ON license TO
    seatkeeper_activation, seatkeeper_heartbeat, seatkeeper_reaper, seatkeeper_portal, seatkeeper_standalone;

-- When leases of a day or more may be freed for silence. The row of the nil account speaks for all: before `not_before`,
-- or while it is halted, the rules themselves free none. An account's own row halts the reaper for that account alone.
CREATE TABLE reaping (
    account_id uuid PRIMARY KEY,
    not_before timestamptz,
    halted_at timestamptz,
    cause text,
    detail text,
    resumed_at timestamptz,
    resumed_cause text,
    CHECK ((halted_at IS NULL) = (cause IS NULL))
);

INSERT INTO reaping (account_id) VALUES ('00000000-0000-0000-0000-000000000000');

GRANT SELECT ON reaping TO
    seatkeeper_activation, seatkeeper_heartbeat, seatkeeper_reaper, seatkeeper_portal, seatkeeper_standalone;
GRANT INSERT, UPDATE ON reaping TO seatkeeper_reaper, seatkeeper_portal, seatkeeper_standalone;

-- Contacts of each hour, added up by the services that hear devices: by them the reaper knows a normal hour.
CREATE TABLE contact_count (
    hour timestamptz PRIMARY KEY,
    contacts bigint NOT NULL CHECK (contacts >= 0)
);

GRANT SELECT, INSERT, UPDATE ON contact_count TO
    seatkeeper_activation, seatkeeper_heartbeat, seatkeeper_standalone;
GRANT SELECT, DELETE ON contact_count TO seatkeeper_reaper, seatkeeper_portal, seatkeeper_standalone;

-- The trail by months, so that what is past its retention goes as a whole table and never by DELETE. A month without a
-- partition of its own goes to the default one. Versions are unique by the lock under which they are given.
-- What is renamed and dropped here is copied in this transaction.
-- squawk-ignore renaming-table
ALTER TABLE audit RENAME TO audit_before;
-- squawk-ignore renaming-object
ALTER TABLE audit_before RENAME CONSTRAINT audit_pkey TO audit_before_pkey;

CREATE TABLE audit (
    account_id uuid NOT NULL,
    license_id uuid NOT NULL,
    version bigint NOT NULL,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    event text NOT NULL,
    device_id uuid,
    generation integer,
    reason text,
    seats_limit integer NOT NULL,
    seats_used integer NOT NULL,
    seats_allowed integer NOT NULL,
    PRIMARY KEY (account_id, license_id, version, at)
) PARTITION BY RANGE (at);

CREATE TABLE audit_default PARTITION OF audit DEFAULT;

-- Rows are refused a change in whichever partition they are named.
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_default
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();

-- Partitions are made and dropped by the schema's owner alone: services may ask for no more than `audit_prepare` and
-- `audit_drop_before`, which run as the owner. Months are those of UTC, whatever the session's zone and style of dates.
-- None of this waits long for a lock, because whoever writes the trail would wait behind it: it fails and is asked again.

-- Make the partition of the month that holds this moment; returns how many were made. It is attached and not created in
-- place, so that rows are written and read meanwhile.
CREATE FUNCTION audit_add_month(month timestamptz) RETURNS integer
LANGUAGE plpgsql SET search_path = public, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO' SET lock_timeout = '2s' AS $$
DECLARE
    name text := 'audit_' || to_char(month, 'YYYY_MM');
    begins timestamptz := date_trunc('month', month);
BEGIN
    IF to_regclass('public.' || name) IS NOT NULL THEN
        RETURN 0;
    END IF;
    EXECUTE format('CREATE TABLE public.%I (LIKE audit INCLUDING ALL)', name);
    EXECUTE format('CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON public.%I '
                   'FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()', name);
    EXECUTE format('ALTER TABLE audit ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
                   name, begins, begins + interval '1 month');
    RETURN 1;
END
$$;

-- Give the rows of the default partition to the months they belong to, and begin it anew.
CREATE FUNCTION audit_settle() RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp SET timezone = 'UTC' SET lock_timeout = '2s' AS $$
DECLARE
    month timestamptz;
BEGIN
    ALTER TABLE audit DETACH PARTITION audit_default;
    ALTER TABLE audit_default RENAME TO audit_strays;
    ALTER TABLE audit_strays RENAME CONSTRAINT audit_default_pkey TO audit_strays_pkey;
    CREATE TABLE audit_default PARTITION OF audit DEFAULT;
    CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_default
        FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
    FOR month IN SELECT DISTINCT date_trunc('month', s.at) FROM audit_strays s LOOP
        PERFORM audit_add_month(month);
    END LOOP;
    INSERT INTO audit SELECT s.* FROM audit_strays s;
    DROP TABLE audit_strays;
END
$$;

-- Make the partitions of this month and of the next ones, a year's at most; returns how many were made.
CREATE FUNCTION audit_prepare(months_ahead integer) RETURNS integer
LANGUAGE plpgsql STRICT SECURITY DEFINER
SET search_path = public, pg_temp SET timezone = 'UTC' SET lock_timeout = '2s' AS $$
DECLARE
    this_month timestamptz := date_trunc('month', ledger_clock());
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(7305002);
    IF EXISTS (SELECT FROM audit_default) THEN
        PERFORM audit_settle();
    END IF;
    FOR ahead IN 0..least(months_ahead, 12) LOOP
        made := made + audit_add_month(this_month + make_interval(months => ahead));
    END LOOP;
    RETURN made;
END
$$;

-- Drop the months that ended `retention_days` ago or earlier; returns their names. Never less than a year is kept, and
-- nothing is dropped while the reaper is halted: the clock may be what is wrong.
CREATE FUNCTION audit_drop_before(retention_days integer) RETURNS text[]
LANGUAGE plpgsql STRICT SECURITY DEFINER
SET search_path = public, pg_temp SET timezone = 'UTC' SET lock_timeout = '2s' AS $$
DECLARE
    kept_from timestamptz := ledger_clock() - make_interval(days => greatest(retention_days, 366));
    dropped text[] := '{}';
    name text;
BEGIN
    PERFORM pg_advisory_xact_lock(7305002);
    IF EXISTS (SELECT FROM reaping r WHERE r.account_id = '00000000-0000-0000-0000-000000000000'
               AND r.halted_at IS NOT NULL) THEN
        RETURN dropped;
    END IF;
    FOR name IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'public.audit'::regclass AND c.relname ~ '^audit_[0-9]{4}_[0-9]{2}$'
        ORDER BY c.relname
    LOOP
        IF to_date(substr(name, 7), 'YYYY_MM') + interval '1 month' <= kept_from THEN
            EXECUTE format('DROP TABLE public.%I', name);
            dropped := dropped || name;
        END IF;
    END LOOP;
    RETURN dropped;
END
$$;

REVOKE EXECUTE ON FUNCTION audit_add_month, audit_settle, audit_prepare, audit_drop_before FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_prepare, audit_drop_before TO seatkeeper_reaper, seatkeeper_standalone;

SELECT audit_add_month(m.month)
FROM (SELECT DISTINCT date_trunc('month', b.at, 'UTC') AS month FROM audit_before b) AS m;
SELECT audit_prepare(3);

-- Before this, no allowance was above the limit but by the seats in use.
INSERT INTO audit (account_id, license_id, version, at, actor, event, device_id, generation, reason, seats_limit,
                   seats_used, seats_allowed)
SELECT b.account_id, b.license_id, b.version, b.at, b.actor, b.event, b.device_id, b.generation, b.reason,
       b.seats_allowed, b.seats_used, b.seats_allowed
FROM audit_before b;

-- squawk-ignore ban-drop-table
DROP TABLE audit_before;

GRANT INSERT ON audit TO
    seatkeeper_activation, seatkeeper_heartbeat, seatkeeper_reaper, seatkeeper_portal, seatkeeper_standalone;
GRANT SELECT ON audit TO seatkeeper_portal, seatkeeper_standalone;

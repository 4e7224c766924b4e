-- The trail's order and its seals, and for the portal's role the rows of one account at a time.

-- Roles belong to the whole server, so this one may be there already. It is the operator's command's; it has no password
-- until one is set.
DO $$
BEGIN
    EXECUTE format('CREATE ROLE %I LOGIN', 'seatkeeper_operator');
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
END
$$;

-- --- The trail's order ----------------------------------------------------------------------------------------------

-- Rows are sealed in the order of their ids. Whoever takes an id is given its transaction's id first, so that all ids up
-- to one that was seen belong to transactions older than any that begins to write later: see shared/ledger/sealing.py.
CREATE SEQUENCE audit_id_seq;

-- The rows there are get their ids in this transaction; none of them is changed otherwise.
-- squawk-ignore adding-field-with-default
ALTER TABLE audit ADD COLUMN id bigint NOT NULL DEFAULT CASE WHEN pg_current_xact_id() IS NOT NULL THEN nextval('audit_id_seq') END;

ALTER SEQUENCE audit_id_seq OWNED BY audit.id;

CREATE INDEX audit_id ON audit (id);

-- No service chooses an id, or gives one again.
REVOKE INSERT ON audit FROM
    seatkeeper_activation, seatkeeper_heartbeat, seatkeeper_reaper, seatkeeper_portal, seatkeeper_standalone;
GRANT INSERT (account_id, license_id, version, at, actor, event, device_id, generation, reason, seats_limit, seats_used,
              seats_allowed) ON audit TO
    seatkeeper_activation, seatkeeper_heartbeat, seatkeeper_reaper, seatkeeper_portal, seatkeeper_standalone,
    seatkeeper_operator;
GRANT USAGE ON SEQUENCE audit_id_seq TO
    seatkeeper_activation, seatkeeper_heartbeat, seatkeeper_reaper, seatkeeper_portal, seatkeeper_standalone,
    seatkeeper_operator;

-- --- Its seals ------------------------------------------------------------------------------------------------------

-- Links of one chain: `hash` is over all else in the row and the hash before it, `mac` over `hash` under a key that no
-- database holds. A link of kind `rows` speaks for the rows of one month among a range of ids, one of kind `dropped` says
-- that a month went whole, past its retention.
CREATE TABLE audit_seal (
    number bigint PRIMARY KEY CHECK (number > 0),
    kind text NOT NULL CHECK (kind IN ('rows', 'dropped')),
    month date NOT NULL,
    first_id bigint NOT NULL,
    last_id bigint NOT NULL,
    count integer NOT NULL CHECK (count >= 0),
    digest bytea NOT NULL CHECK (length(digest) = 32),
    marks bytea NOT NULL CHECK (length(marks) = 8 * count),
    sealed_at timestamptz NOT NULL,
    key_id text NOT NULL,
    previous bytea NOT NULL CHECK (length(previous) = 32),
    hash bytea NOT NULL CHECK (length(hash) = 32),
    mac bytea NOT NULL CHECK (length(mac) = 32)
);

CREATE INDEX audit_seal_dropped ON audit_seal (number) WHERE kind = 'dropped';

CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_seal
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();

-- Who reaps also seals; who operates verifies.
GRANT SELECT ON audit TO seatkeeper_reaper;
GRANT SELECT ON audit_id_seq TO seatkeeper_reaper, seatkeeper_standalone, seatkeeper_operator;
GRANT SELECT, INSERT ON audit_seal TO seatkeeper_reaper, seatkeeper_standalone;
GRANT SELECT ON audit_seal TO seatkeeper_operator;

-- --- The operator's role, and what the portal's gives up to it --------------------------------------------------------

GRANT USAGE ON SCHEMA public TO seatkeeper_operator;
GRANT SELECT ON account, signing_key, product, policy, license, license_key, device, activation_token, management_token,
    audit, outbox, projection, reaping, contact_count, schema_migration TO seatkeeper_operator;
GRANT UPDATE (status, seats_limit, seats_allowed, seats_used, devices_pending, version, expires_at,
              activations_began_at, activations_count, releases_began_at, releases_count) ON license
    TO seatkeeper_operator;
GRANT INSERT, UPDATE ON device, reaping TO seatkeeper_operator;
GRANT INSERT ON outbox, account, signing_key, product, policy, license, license_key, activation_token, management_token
    TO seatkeeper_operator;
GRANT UPDATE (epoch) ON projection TO seatkeeper_operator;
GRANT UPDATE (revoked_at) ON activation_token, management_token TO seatkeeper_operator;
GRANT UPDATE (retired_at) ON signing_key TO seatkeeper_operator;

-- Facts of every account pass through the outbox, so the portal relays none; accounts are made, and the reaper is halted
-- and resumed, by operators.
REVOKE UPDATE (sent_at), DELETE ON outbox FROM seatkeeper_portal;
REVOKE INSERT ON account FROM seatkeeper_portal;
REVOKE INSERT, UPDATE ON reaping FROM seatkeeper_portal;
REVOKE SELECT, DELETE ON contact_count FROM seatkeeper_portal;

-- --- One account at a time ------------------------------------------------------------------------------------------

-- The account for which this session works; none when nothing is set, and then it sees no row.
CREATE FUNCTION current_account() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('seatkeeper.account', true), '')::uuid;

-- Forced: the schema's owner has a policy as well, and a role without one sees nothing.
DO $$
DECLARE
    tenant text;
    everyone text := 'seatkeeper_activation, seatkeeper_heartbeat, seatkeeper_reaper, seatkeeper_standalone, '
                     'seatkeeper_operator, CURRENT_USER';
BEGIN
    FOREACH tenant IN ARRAY ARRAY['account', 'signing_key', 'product', 'policy', 'license', 'license_key', 'device',
                                  'activation_token', 'management_token', 'audit', 'outbox', 'inbox', 'reaping']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tenant);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', tenant);
        EXECUTE format('CREATE POLICY every_account ON %I TO %s USING (true) WITH CHECK (true)', tenant, everyone);
        EXECUTE format('CREATE POLICY own_account ON %I TO seatkeeper_portal USING (%I = current_account())',
                       tenant, CASE tenant WHEN 'account' THEN 'id' ELSE 'account_id' END);
    END LOOP;
END
$$;

-- The nil account's row says what holds for all: the rules ask for it.
CREATE POLICY for_all ON reaping FOR SELECT TO seatkeeper_portal
    USING (account_id = '00000000-0000-0000-0000-000000000000');

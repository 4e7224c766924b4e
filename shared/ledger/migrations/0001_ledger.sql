-- The durable records. Every row carries its account, and every key of a tenant's row begins with it.
-- Seats change in `license`, `device` and `activation_token` only through the ledger (shared/ledger/ledger.py).

-- The one clock that decides. The demonstration's simulated clock replaces this function; services cannot.
CREATE FUNCTION ledger_clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT clock_timestamp()';

CREATE TABLE account (
    id uuid PRIMARY KEY,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Private keys are sealed under a master secret that the database never sees.
CREATE TABLE signing_key (
    account_id uuid NOT NULL REFERENCES account,
    kid text NOT NULL,
    role text NOT NULL CHECK (role IN ('root', 'leaf')),
    public_key bytea NOT NULL,
    sealed_with text NOT NULL,
    sealed bytea NOT NULL,
    certificate text CHECK ((role = 'leaf') = (certificate IS NOT NULL)),
    created_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz,
    PRIMARY KEY (account_id, kid)
);

CREATE TABLE product (
    account_id uuid NOT NULL REFERENCES account,
    id uuid NOT NULL,
    code text NOT NULL CHECK (code ~ '^[a-z0-9][a-z0-9._-]{0,63}$'),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, id),
    UNIQUE (account_id, code)
);

CREATE TABLE policy (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    product_id uuid NOT NULL,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    kind text NOT NULL CHECK (kind IN ('node_locked', 'floating')),
    seats integer NOT NULL CHECK (seats >= 0),
    lease_s integer NOT NULL CHECK (lease_s BETWEEN 1 AND 315360000),
    offline_grace_s integer NOT NULL CHECK (offline_grace_s BETWEEN 1 AND lease_s),
    heartbeat_interval_s integer NOT NULL CHECK (heartbeat_interval_s BETWEEN 1 AND lease_s),
    approval text NOT NULL CHECK (approval IN ('automatic', 'allow_list')),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, id),
    UNIQUE (account_id, name),
    FOREIGN KEY (account_id, product_id) REFERENCES product (account_id, id),
    CHECK (kind = 'node_locked' OR offline_grace_s = lease_s)
);

-- The CHECK on seats_used is the last word: the database itself refuses to oversell.
CREATE TABLE license (
    account_id uuid NOT NULL,
    id uuid NOT NULL,
    policy_id uuid NOT NULL,
    status text NOT NULL CHECK (status IN ('active', 'suspended', 'revoked')),
    seats_limit integer NOT NULL CHECK (seats_limit >= 0),
    seats_allowed integer NOT NULL,
    seats_used integer NOT NULL DEFAULT 0,
    devices_pending integer NOT NULL DEFAULT 0 CHECK (devices_pending BETWEEN 0 AND 100),
    version bigint NOT NULL CHECK (version > 0),
    expires_at timestamptz,
    key_prefix text NOT NULL,
    customer text NOT NULL DEFAULT '' CHECK (length(customer) <= 200),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, id),
    FOREIGN KEY (account_id, policy_id) REFERENCES policy (account_id, id),
    CONSTRAINT license_never_oversold CHECK (seats_used BETWEEN 0 AND seats_allowed),
    CONSTRAINT license_allowance CHECK (seats_allowed >= seats_limit)
) WITH (fillfactor = 70);

-- A key finds its license and is never moved to another; only its HMAC is kept.
CREATE TABLE license_key (
    digest bytea PRIMARY KEY CHECK (length(digest) = 32),
    key_id text NOT NULL,
    account_id uuid NOT NULL,
    license_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (account_id, license_id) REFERENCES license (account_id, id)
);

-- The id derives from (license, fingerprint), so the primary key allows one row, and one seat, for each.
CREATE TABLE device (
    account_id uuid NOT NULL,
    license_id uuid NOT NULL,
    id uuid NOT NULL,
    fingerprint text NOT NULL CHECK (length(fingerprint) BETWEEN 1 AND 256),
    name text NOT NULL DEFAULT '' CHECK (length(name) <= 256),
    state text NOT NULL CHECK (state IN ('pending', 'active', 'released', 'blocked')),
    generation integer NOT NULL CHECK (generation >= 0),
    approved boolean NOT NULL DEFAULT false,
    activated_at timestamptz,
    last_contact_at timestamptz,
    lease_expires_at timestamptz,
    announced_lease_end timestamptz,
    ended_at timestamptz,
    ended_reason text,
    reset_at timestamptz,
    nonce bytea,
    PRIMARY KEY (account_id, license_id, id),
    FOREIGN KEY (account_id, license_id) REFERENCES license (account_id, id),
    CHECK (state <> 'active' OR (lease_expires_at IS NOT NULL AND generation > 0))
) WITH (fillfactor = 80);

-- A full license looks for its own ended leases; the reaper looks over all of them.
CREATE INDEX device_license_lease ON device (account_id, license_id, lease_expires_at) WHERE state = 'active';
CREATE INDEX device_lease ON device (lease_expires_at) WHERE state = 'active';

CREATE TABLE activation_token (
    account_id uuid NOT NULL,
    license_id uuid NOT NULL,
    id uuid NOT NULL,
    expires_at timestamptz NOT NULL,
    max_uses integer NOT NULL CHECK (max_uses > 0),
    uses integer NOT NULL DEFAULT 0,
    revoked_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, license_id, id),
    FOREIGN KEY (account_id, license_id) REFERENCES license (account_id, id),
    CONSTRAINT activation_token_never_overused CHECK (uses BETWEEN 0 AND max_uses)
);

CREATE TABLE management_token (
    account_id uuid NOT NULL REFERENCES account,
    id uuid NOT NULL,
    digest bytea NOT NULL UNIQUE CHECK (length(digest) = 32),
    key_id text NOT NULL,
    name text NOT NULL,
    scopes text[] NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, id)
);

-- One row for each change, in the order of the license's version. Kept as written: see the trigger.
CREATE TABLE audit (
    account_id uuid NOT NULL,
    license_id uuid NOT NULL,
    version bigint NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    event text NOT NULL,
    device_id uuid,
    generation integer,
    reason text,
    seats_used integer NOT NULL,
    seats_allowed integer NOT NULL,
    PRIMARY KEY (account_id, license_id, version)
);

CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit rows are never changed or removed' USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();

-- Facts on their way out, written with the change they tell of. `sent_at` is set once they were taken over.
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id uuid NOT NULL,
    license_id uuid NOT NULL,
    version bigint NOT NULL,
    fact text NOT NULL,
    created_at timestamptz NOT NULL,
    sent_at timestamptz,
    UNIQUE (account_id, license_id, version)
);

CREATE INDEX outbox_unsent ON outbox (id) WHERE sent_at IS NULL;
CREATE INDEX outbox_sent ON outbox (sent_at) WHERE sent_at IS NOT NULL;

-- The epoch of Redis's projection: what was written there under a lower one counts as missing.
CREATE TABLE projection (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    epoch integer NOT NULL CHECK (epoch > 0)
);

INSERT INTO projection (epoch) VALUES (1);

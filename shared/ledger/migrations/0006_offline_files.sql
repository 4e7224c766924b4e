-- Offline files: the key that a device has shown for each of its generations, and what was answered to which request.

-- One key for a generation, however many ask at the same time: whoever comes second finds the first one's.
CREATE TABLE offline_device (
    account_id uuid NOT NULL REFERENCES account,
    license_id uuid NOT NULL,
    device_id uuid NOT NULL,
    generation integer NOT NULL CHECK (generation > 0),
    device_key bytea NOT NULL CHECK (length(device_key) = 32),
    PRIMARY KEY (account_id, license_id, device_id, generation)
);

-- A request is known by its SHA-256 and has one answer, which is kept for long after the file's end.
CREATE TABLE offline_file (
    account_id uuid NOT NULL REFERENCES account,
    request bytea NOT NULL CHECK (length(request) = 32),
    license_id uuid NOT NULL,
    device_id uuid NOT NULL,
    generation integer NOT NULL CHECK (generation > 0),
    file bytea NOT NULL,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (account_id, request)
);

CREATE INDEX offline_file_expires ON offline_file (expires_at);

-- Neither is ever changed. Who activates issues files, and makes the key that signs them; who reaps clears the old away.
GRANT SELECT, INSERT ON offline_device, offline_file TO seatkeeper_activation, seatkeeper_standalone;
GRANT SELECT ON offline_device, offline_file TO seatkeeper_operator;
GRANT SELECT, DELETE ON offline_file TO seatkeeper_reaper, seatkeeper_standalone;
GRANT INSERT ON signing_key TO seatkeeper_activation;

DO $$
DECLARE
    tenant text;
    everyone text := 'seatkeeper_activation, seatkeeper_heartbeat, seatkeeper_reaper, seatkeeper_standalone, '
                     'seatkeeper_operator, CURRENT_USER';
BEGIN
    FOREACH tenant IN ARRAY ARRAY['offline_device', 'offline_file']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tenant);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', tenant);
        EXECUTE format('CREATE POLICY every_account ON %I TO %s USING (true) WITH CHECK (true)', tenant, everyone);
        EXECUTE format('CREATE POLICY own_account ON %I TO seatkeeper_portal USING (account_id = current_account())',
                       tenant);
    END LOOP;
END
$$;

-- A role for each service: what it may touch and nothing else. None may change the schema.
-- Roles belong to the whole server, so they may be there already. They have no password until an operator sets one.
DO $$
DECLARE
    service text;
BEGIN
    FOREACH service IN ARRAY ARRAY['seatkeeper_activation', 'seatkeeper_heartbeat', 'seatkeeper_reaper',
                                   'seatkeeper_portal', 'seatkeeper_standalone']
    LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I LOGIN', service);
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END LOOP;
END
$$;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO
    seatkeeper_activation, seatkeeper_heartbeat, seatkeeper_reaper, seatkeeper_portal, seatkeeper_standalone;

-- What the ledger reads and writes, in whichever service it runs. Audit rows are only ever added.
GRANT SELECT ON product, policy, license, device, outbox, projection, schema_migration TO
    seatkeeper_activation, seatkeeper_heartbeat, seatkeeper_reaper, seatkeeper_portal, seatkeeper_standalone;
GRANT UPDATE (status, seats_limit, seats_allowed, seats_used, devices_pending, version) ON license TO
    seatkeeper_activation, seatkeeper_heartbeat, seatkeeper_reaper, seatkeeper_portal, seatkeeper_standalone;
GRANT INSERT, UPDATE ON device TO
    seatkeeper_activation, seatkeeper_heartbeat, seatkeeper_reaper, seatkeeper_portal, seatkeeper_standalone;
GRANT INSERT ON audit, outbox TO
    seatkeeper_activation, seatkeeper_heartbeat, seatkeeper_reaper, seatkeeper_portal, seatkeeper_standalone;
GRANT UPDATE (epoch) ON projection TO
    seatkeeper_activation, seatkeeper_heartbeat, seatkeeper_reaper, seatkeeper_portal, seatkeeper_standalone;

-- The relay marks what was taken over and clears it away later.
GRANT UPDATE (sent_at), DELETE ON outbox TO
    seatkeeper_activation, seatkeeper_heartbeat, seatkeeper_reaper, seatkeeper_portal, seatkeeper_standalone;

-- Who answers devices signs leases; who activates reads keys and counts the uses of tokens.
GRANT SELECT ON account, signing_key TO
    seatkeeper_activation, seatkeeper_heartbeat, seatkeeper_portal, seatkeeper_standalone;
GRANT SELECT ON license_key, activation_token TO seatkeeper_activation, seatkeeper_portal, seatkeeper_standalone;
GRANT UPDATE (uses) ON activation_token TO seatkeeper_activation, seatkeeper_standalone;

-- Only the portal makes accounts, products, policies, licenses, keys and tokens, and reads the trail.
GRANT SELECT ON audit TO seatkeeper_portal, seatkeeper_standalone;
GRANT SELECT, INSERT ON management_token TO seatkeeper_portal, seatkeeper_standalone;
GRANT INSERT ON account, signing_key, product, policy, license, license_key, activation_token TO
    seatkeeper_portal, seatkeeper_standalone;
GRANT UPDATE (revoked_at) ON activation_token, management_token TO seatkeeper_portal, seatkeeper_standalone;
GRANT UPDATE (retired_at) ON signing_key TO seatkeeper_portal, seatkeeper_standalone;

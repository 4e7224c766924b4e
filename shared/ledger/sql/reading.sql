-- What is read outside the ledger's transactions. Nothing here decides about a seat.
-- `x = ANY (ARRAY[y])` keeps plans on their indexes: see ledger.sql.

-- name: find_licenses
-- Keys find their licenses; $1 are the HMACs.
SELECT k.digest, k.account_id, k.license_id FROM license_key k WHERE k.digest = ANY ($1::bytea[]);

-- name: read_licenses
SELECT l.account_id, l.id, l.status, l.seats_limit, l.seats_allowed, l.seats_used, l.devices_pending, l.version,
       l.expires_at, l.activations_began_at, l.activations_count, l.releases_began_at, l.releases_count, p.kind,
       p.lease_s, p.offline_grace_s, p.heartbeat_interval_s, p.approval, p.rules, pr.code AS product_code
FROM unnest($1::uuid[], $2::uuid[]) AS wanted (account_id, id)
JOIN license l ON l.account_id = ANY (ARRAY[wanted.account_id]) AND l.id = wanted.id
JOIN policy p ON p.account_id = ANY (ARRAY[l.account_id]) AND p.id = l.policy_id
    AND (p.account_id, p.id) >= (l.account_id, l.policy_id)
JOIN product pr ON pr.account_id = ANY (ARRAY[p.account_id]) AND pr.id = p.product_id
    AND (pr.account_id, pr.id) >= (p.account_id, p.product_id);

-- name: list_devices
-- A page of one license's devices that hold or ask for a seat, or of all, by id.
SELECT d.account_id, d.license_id, d.id, d.fingerprint, d.name, d.state, d.generation, d.approved, d.activated_at,
       d.last_contact_at, d.lease_expires_at, d.announced_lease_end, d.ended_at, d.ended_reason, d.reset_at, d.nonce, d.counter,
       d.clone_suspected_at, d.offline_until
FROM device d
WHERE d.account_id = $1 AND d.license_id = $2 AND d.id > $3 AND (d.state = ANY ($4::text[]))
ORDER BY d.id
LIMIT $5;

-- name: pulse
-- A standby that was made the primary, and a restored database, write another timeline than was written before.
SELECT ledger_clock() AS now, epoch,
    CASE WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_lsn()), 8) ELSE '' END AS timeline
FROM projection;

-- name: raise_epoch
-- Whoever saw the epoch fail raises it once, however many saw it.
UPDATE projection SET epoch = epoch + 1 WHERE epoch = $1;

-- name: account_keys
SELECT kid, role, public_key, sealed_with, sealed, certificate FROM signing_key
WHERE account_id = $1 AND retired_at IS NULL
ORDER BY created_at DESC, kid;

-- name: accounts
SELECT id FROM account WHERE id > $1 ORDER BY id LIMIT $2;

-- name: trail
SELECT version, at, actor, event, device_id, generation, reason, seats_limit, seats_used, seats_allowed
FROM audit
WHERE account_id = $1 AND license_id = $2 AND version > $3
ORDER BY version
LIMIT $4;

-- name: read_seats
-- Licenses with the devices asked for, as of one moment and without a lock; no device where there is none.
SELECT l.account_id, l.id AS license_id, l.status, l.seats_limit, l.seats_allowed, l.seats_used, l.devices_pending,
       l.version, l.expires_at, l.activations_began_at, l.activations_count, l.releases_began_at, l.releases_count,
       p.kind, p.lease_s, p.offline_grace_s, p.heartbeat_interval_s, p.approval, p.rules, pr.code AS product_code,
       d.id, d.fingerprint, d.name, d.state, d.generation, d.approved, d.activated_at, d.last_contact_at,
       d.lease_expires_at, d.announced_lease_end, d.ended_at, d.ended_reason, d.reset_at, d.nonce, d.counter,
       d.clone_suspected_at, d.offline_until
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS wanted (account_id, license_id, id)
JOIN license l ON l.account_id = ANY (ARRAY[wanted.account_id]) AND l.id = wanted.license_id
JOIN policy p ON p.account_id = ANY (ARRAY[l.account_id]) AND p.id = l.policy_id
    AND (p.account_id, p.id) >= (l.account_id, l.policy_id)
JOIN product pr ON pr.account_id = ANY (ARRAY[p.account_id]) AND pr.id = p.product_id
    AND (pr.account_id, pr.id) >= (p.account_id, p.product_id)
LEFT JOIN device d ON d.account_id = ANY (ARRAY[wanted.account_id])
    AND d.license_id = wanted.license_id AND d.id = wanted.id;

-- name: read_holders
-- Who holds the seats of each license: the first of its active devices by the ends of their leases. The comparison of
-- rows is one that only the license's own index answers.
SELECT holder.account_id, holder.license_id, holder.id, holder.name, holder.last_contact_at, holder.lease_expires_at
FROM unnest($1::uuid[], $2::uuid[]) AS wanted (account_id, license_id)
CROSS JOIN LATERAL (
    SELECT d.account_id, d.license_id, d.id, d.name, d.last_contact_at, d.lease_expires_at
    FROM device d
    WHERE d.account_id = wanted.account_id AND d.license_id = wanted.license_id AND d.state = 'active'
        AND (d.account_id, d.license_id, d.lease_expires_at) >= (wanted.account_id, wanted.license_id, '-infinity')
    ORDER BY d.lease_expires_at
    LIMIT $3
) AS holder;

-- name: no_longer_full
-- Of licenses that were full at a version, and a device for each that asks for a seat: the numbers of those of whom the
-- ledger might decide otherwise now. The license has moved or ended, it knows the device, or the lease that ends first is
-- past its end and slack, and the ledger would free it. The comparison of rows is one that only the license's own index
-- answers.
WITH moment AS MATERIALIZED (SELECT ledger_clock() AS now)
SELECT asked.number
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::int[])
    WITH ORDINALITY AS asked (account_id, license_id, device_id, version, slack_s, number)
LEFT JOIN license l ON l.account_id = ANY (ARRAY[asked.account_id]) AND l.id = asked.license_id
    AND l.version = asked.version AND l.seats_used >= l.seats_limit
    AND (l.expires_at IS NULL OR l.expires_at > (SELECT m.now FROM moment m))
WHERE l.id IS NULL
    OR EXISTS (
        SELECT FROM device d
        WHERE d.account_id = ANY (ARRAY[asked.account_id]) AND d.license_id = asked.license_id
            AND d.id = asked.device_id
    )
    OR (
        SELECT e.lease_expires_at <= (SELECT m.now FROM moment m) - make_interval(secs => asked.slack_s)
        FROM device e
        WHERE e.account_id = asked.account_id AND e.license_id = asked.license_id AND e.state = 'active'
            AND (e.account_id, e.license_id, e.lease_expires_at) >= (asked.account_id, asked.license_id, '-infinity')
        ORDER BY e.lease_expires_at
        LIMIT 1
    );

-- What is read outside the ledger's transactions. Nothing here decides about a seat.
-- `x = ANY (ARRAY[y])` keeps plans on their indexes: see ledger.sql.

-- name: find_licenses
-- Keys find their licenses; $1 are the HMACs.
SELECT k.digest, k.account_id, k.license_id FROM license_key k WHERE k.digest = ANY ($1::bytea[]);

-- name: read_licenses
SELECT l.account_id, l.id, l.status, l.seats_limit, l.seats_allowed, l.seats_used, l.devices_pending, l.version,
       l.expires_at, p.kind, p.lease_s, p.offline_grace_s, p.heartbeat_interval_s, p.approval, pr.code AS product_code
FROM unnest($1::uuid[], $2::uuid[]) AS wanted (account_id, id)
JOIN license l ON l.account_id = ANY (ARRAY[wanted.account_id]) AND l.id = ANY (ARRAY[wanted.id])
JOIN policy p ON p.account_id = ANY (ARRAY[l.account_id]) AND p.id = ANY (ARRAY[l.policy_id])
JOIN product pr ON pr.account_id = ANY (ARRAY[p.account_id]) AND pr.id = ANY (ARRAY[p.product_id]);

-- name: list_devices
-- A page of one license's devices that hold or ask for a seat, or of all, by id.
SELECT d.account_id, d.license_id, d.id, d.fingerprint, d.name, d.state, d.generation, d.approved, d.activated_at,
       d.last_contact_at, d.lease_expires_at, d.announced_lease_end, d.ended_at, d.ended_reason, d.reset_at, d.nonce
FROM device d
WHERE d.account_id = $1 AND d.license_id = $2 AND d.id > $3 AND (d.state = ANY ($4::text[]))
ORDER BY d.id
LIMIT $5;

-- name: expired_devices
-- The reaper's hints: leases past their end plus slack. The ledger decides again about each.
SELECT d.account_id, d.license_id, d.id, d.generation, d.lease_expires_at, d.last_contact_at, l.customer, l.key_prefix
FROM device d
JOIN license l ON l.account_id = ANY (ARRAY[d.account_id]) AND l.id = ANY (ARRAY[d.license_id])
JOIN policy p ON p.account_id = ANY (ARRAY[l.account_id]) AND p.id = ANY (ARRAY[l.policy_id])
WHERE d.state = 'active'
  AND d.lease_expires_at <= (SELECT ledger_clock())
  AND d.lease_expires_at <= (SELECT ledger_clock())
      - CASE WHEN p.lease_s >= 86400 THEN interval '24 hours' ELSE interval '0' END
  AND l.status <> 'suspended'
  AND (d.lease_expires_at, d.account_id, d.license_id, d.id) > ($1, $2, $3, $4)
ORDER BY d.lease_expires_at, d.account_id, d.license_id, d.id
LIMIT $5;

-- name: expiring_devices
-- Leases of a day or more whose end is near and was not announced.
SELECT d.account_id, d.license_id, d.id, d.generation, d.lease_expires_at, d.last_contact_at, l.customer, l.key_prefix
FROM device d
JOIN license l ON l.account_id = ANY (ARRAY[d.account_id]) AND l.id = ANY (ARRAY[d.license_id])
JOIN policy p ON p.account_id = ANY (ARRAY[l.account_id]) AND p.id = ANY (ARRAY[l.policy_id])
WHERE d.state = 'active'
  AND d.lease_expires_at <= (SELECT ledger_clock()) + interval '7 days'
  AND p.lease_s >= 86400
  AND d.lease_expires_at <= (SELECT ledger_clock()) + make_interval(secs => least(604800, p.lease_s / 10))
  AND d.announced_lease_end IS DISTINCT FROM d.lease_expires_at
  AND l.status <> 'suspended'
  AND (d.lease_expires_at, d.account_id, d.license_id, d.id) > ($1, $2, $3, $4)
ORDER BY d.lease_expires_at, d.account_id, d.license_id, d.id
LIMIT $5;

-- name: floating_devices
-- Floating leases that end within a day: all there are, since none is longer.
SELECT d.account_id, d.license_id, d.id, d.generation, d.lease_expires_at, d.last_contact_at, l.customer, l.key_prefix
FROM device d
JOIN license l ON l.account_id = d.account_id AND l.id = d.license_id
JOIN policy p ON p.account_id = l.account_id AND p.id = l.policy_id
WHERE d.state = 'active'
  AND d.lease_expires_at <= (SELECT ledger_clock()) + interval '24 hours'
  AND p.kind = 'floating'
  AND (d.lease_expires_at, d.account_id, d.license_id, d.id) > ($1, $2, $3, $4)
ORDER BY d.lease_expires_at, d.account_id, d.license_id, d.id
LIMIT $5;

-- name: pulse
SELECT ledger_clock() AS now, epoch FROM projection;

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
SELECT version, at, actor, event, device_id, generation, reason, seats_used, seats_allowed
FROM audit
WHERE account_id = $1 AND license_id = $2 AND version > $3
ORDER BY version
LIMIT $4;

-- Licenses as Postgres holds them, to compare Redis with: a row for each active device, or one for a license without.
-- A single statement, so that license and devices are of the same moment. Plans: see ledger.sql.

-- name: count
SELECT count(*) FROM license;

-- name: page
-- The licenses after ($1, $2), by id.
SELECT l.account_id, l.id AS license_id, l.status, l.seats_limit, l.seats_allowed, l.seats_used, l.devices_pending,
       l.version, l.expires_at, l.activations_began_at, l.activations_count, l.releases_began_at, l.releases_count,
       p.kind, p.lease_s, p.offline_grace_s, p.heartbeat_interval_s, p.approval, p.rules, pr.code AS product_code,
       d.id, d.fingerprint, d.name, d.state, d.generation, d.approved, d.activated_at, d.last_contact_at,
       d.lease_expires_at, d.announced_lease_end, d.ended_at, d.ended_reason, d.reset_at, d.nonce, d.counter,
       d.clone_suspected_at, d.offline_until
FROM (
    SELECT n.* FROM license n WHERE (n.account_id, n.id) > ($1, $2) ORDER BY n.account_id, n.id LIMIT $3
) AS l
JOIN policy p ON p.account_id = ANY (ARRAY[l.account_id]) AND p.id = l.policy_id
    AND (p.account_id, p.id) >= (l.account_id, l.policy_id)
JOIN product pr ON pr.account_id = ANY (ARRAY[p.account_id]) AND pr.id = p.product_id
    AND (pr.account_id, pr.id) >= (p.account_id, p.product_id)
LEFT JOIN device d ON d.account_id = ANY (ARRAY[l.account_id]) AND d.license_id = ANY (ARRAY[l.id])
    AND d.state = 'active'
ORDER BY l.account_id, l.id;

-- name: named
SELECT l.account_id, l.id AS license_id, l.status, l.seats_limit, l.seats_allowed, l.seats_used, l.devices_pending,
       l.version, l.expires_at, l.activations_began_at, l.activations_count, l.releases_began_at, l.releases_count,
       p.kind, p.lease_s, p.offline_grace_s, p.heartbeat_interval_s, p.approval, p.rules, pr.code AS product_code,
       d.id, d.fingerprint, d.name, d.state, d.generation, d.approved, d.activated_at, d.last_contact_at,
       d.lease_expires_at, d.announced_lease_end, d.ended_at, d.ended_reason, d.reset_at, d.nonce, d.counter,
       d.clone_suspected_at, d.offline_until
FROM unnest($1::uuid[], $2::uuid[]) AS wanted (account_id, id)
JOIN license l ON l.account_id = ANY (ARRAY[wanted.account_id]) AND l.id = wanted.id
JOIN policy p ON p.account_id = ANY (ARRAY[l.account_id]) AND p.id = l.policy_id
    AND (p.account_id, p.id) >= (l.account_id, l.policy_id)
JOIN product pr ON pr.account_id = ANY (ARRAY[p.account_id]) AND pr.id = p.product_id
    AND (pr.account_id, pr.id) >= (p.account_id, p.product_id)
LEFT JOIN device d ON d.account_id = ANY (ARRAY[l.account_id]) AND d.license_id = ANY (ARRAY[l.id])
    AND d.state = 'active'
ORDER BY l.account_id, l.id;

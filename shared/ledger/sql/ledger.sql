-- The four steps of one batch, planned once, whatever the tables held then: see connections.py.
-- `x = ANY (ARRAY[y])` on a key's first column leaves the planner no other way than an index that begins with x. A plain
-- join it would plan for a table of two rows as a scan of the table, and go on scanning when that has grown to millions.
-- The key's other columns are plain: of several such conditions Postgres 16 and older keep the first alone, where the
-- table is small, and then read all that an account has. Where another index begins with the same column, a comparison
-- of rows makes the key's own the cheaper one; and ended leases are found by one that only the license's own index
-- answers.

-- name: lock
-- Lock the licenses in the order of their ids, so that two batches never wait for each other in a ring. With SKIP LOCKED
-- added, those that another transaction holds are left out.
SELECT wanted.place, l.status, l.seats_limit, l.seats_allowed, l.seats_used, l.devices_pending, l.version,
       l.expires_at, l.activations_began_at, l.activations_count, l.releases_began_at, l.releases_count, p.kind,
       p.lease_s, p.offline_grace_s, p.heartbeat_interval_s, p.approval, p.rules, pr.code AS product_code
FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY AS wanted (account_id, id, place)
JOIN license l ON l.account_id = ANY (ARRAY[wanted.account_id]) AND l.id = wanted.id
JOIN policy p ON p.account_id = ANY (ARRAY[l.account_id]) AND p.id = l.policy_id
    AND (p.account_id, p.id) >= (l.account_id, l.policy_id)
JOIN product pr ON pr.account_id = ANY (ARRAY[p.account_id]) AND pr.id = p.product_id
    AND (pr.account_id, pr.id) >= (p.account_id, p.product_id)
ORDER BY l.id
FOR UPDATE OF l;

-- name: read
-- The clock and the moment before which silence ends no long lease, then the devices that the commands name ($1-$3) and of crowded licenses those whose leases ended first
-- ($4-$6). A statement of its own: its snapshot is younger than the locks.
WITH moment AS MATERIALIZED (
    SELECT m.now, CASE WHEN r.halted_at IS NULL THEN r.not_before ELSE m.now + interval '100 years' END AS not_before
    FROM (SELECT ledger_clock() AS now) AS m
    LEFT JOIN reaping r ON r.account_id = '00000000-0000-0000-0000-000000000000'
)
SELECT moment.now, moment.not_before, d.named, d.crowded, d.id, d.fingerprint, d.name, d.state, d.generation,
       d.approved, d.activated_at, d.last_contact_at, d.lease_expires_at, d.announced_lease_end, d.ended_at,
       d.ended_reason, d.reset_at, d.nonce, d.counter, d.clone_suspected_at, d.offline_until
FROM moment
LEFT JOIN (
    SELECT wanted.place AS named, NULL::bigint AS crowded, named.id, named.fingerprint, named.name, named.state,
           named.generation, named.approved, named.activated_at, named.last_contact_at, named.lease_expires_at,
           named.announced_lease_end, named.ended_at, named.ended_reason, named.reset_at, named.nonce, named.counter,
           named.clone_suspected_at, named.offline_until
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) WITH ORDINALITY AS wanted (account_id, license_id, id, place)
    JOIN device named ON named.account_id = ANY (ARRAY[wanted.account_id]) AND named.license_id = wanted.license_id
        AND named.id = wanted.id
    UNION ALL
    SELECT NULL, crowded.place, oldest.id, oldest.fingerprint, oldest.name, oldest.state,
           oldest.generation, oldest.approved, oldest.activated_at, oldest.last_contact_at, oldest.lease_expires_at,
           oldest.announced_lease_end, oldest.ended_at, oldest.ended_reason, oldest.reset_at, oldest.nonce, oldest.counter,
           oldest.clone_suspected_at, oldest.offline_until
    FROM unnest($4::uuid[], $5::uuid[], $6::int[]) WITH ORDINALITY AS crowded (account_id, license_id, lacking, place)
    CROSS JOIN LATERAL (
        SELECT e.*
        FROM device e
        WHERE e.account_id = crowded.account_id AND e.license_id = crowded.license_id AND e.state = 'active'
            AND (e.account_id, e.license_id, e.lease_expires_at)
                <= (crowded.account_id, crowded.license_id, (SELECT m.now FROM moment m))
        ORDER BY e.lease_expires_at
        LIMIT crowded.lacking
    ) AS oldest
) AS d ON true;

-- name: read_tokens
SELECT t.account_id, t.license_id, t.id, t.expires_at, t.max_uses, t.uses, t.revoked_at
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS wanted (account_id, license_id, id)
JOIN activation_token t ON t.account_id = ANY (ARRAY[wanted.account_id])
    AND t.license_id = wanted.license_id AND t.id = wanted.id;

-- name: extend
-- Leases that moved and nothing else: no event, so neither audit nor outbox.
UPDATE device d
SET last_contact_at = n.last_contact_at, lease_expires_at = n.lease_expires_at, announced_lease_end = NULL,
    counter = n.counter
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::timestamptz[], $6::bigint[])
    AS n (account_id, license_id, id, last_contact_at, lease_expires_at, counter)
WHERE d.account_id = ANY (ARRAY[n.account_id]) AND d.license_id = n.license_id AND d.id = n.id;

-- name: write
-- Everything a batch of events changes, in one statement.
WITH put_devices AS (
    INSERT INTO device (account_id, license_id, id, fingerprint, name, state, generation, approved, activated_at,
                        last_contact_at, lease_expires_at, announced_lease_end, ended_at, ended_reason, reset_at, nonce,
                        counter, clone_suspected_at, offline_until)
    SELECT n.account_id, n.license_id, n.id, n.fingerprint, n.name, n.state, n.generation, n.approved,
           n.activated_at, n.last_contact_at, n.lease_expires_at, n.announced_lease_end, n.ended_at, n.ended_reason,
           n.reset_at, n.nonce, n.counter, n.clone_suspected_at, n.offline_until
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::int[], $8::bool[],
                $9::timestamptz[], $10::timestamptz[], $11::timestamptz[], $12::timestamptz[], $13::timestamptz[],
                $14::text[], $15::timestamptz[], $16::bytea[], $17::bigint[], $18::timestamptz[], $19::timestamptz[])
        AS n (account_id, license_id, id, fingerprint, name, state, generation, approved, activated_at,
              last_contact_at, lease_expires_at, announced_lease_end, ended_at, ended_reason, reset_at, nonce,
              counter, clone_suspected_at, offline_until)
    ON CONFLICT (account_id, license_id, id) DO UPDATE
    SET name = excluded.name, state = excluded.state, generation = excluded.generation, approved = excluded.approved,
        activated_at = excluded.activated_at, last_contact_at = excluded.last_contact_at,
        lease_expires_at = excluded.lease_expires_at, announced_lease_end = excluded.announced_lease_end,
        ended_at = excluded.ended_at, ended_reason = excluded.ended_reason, reset_at = excluded.reset_at,
        nonce = excluded.nonce, counter = excluded.counter, clone_suspected_at = excluded.clone_suspected_at,
        offline_until = excluded.offline_until
), put_licenses AS (
    UPDATE license l
    SET status = n.status, seats_limit = n.seats_limit, seats_allowed = n.seats_allowed, seats_used = n.seats_used,
        devices_pending = n.devices_pending, version = n.version, expires_at = n.expires_at,
        activations_began_at = n.activations_began_at, activations_count = n.activations_count,
        releases_began_at = n.releases_began_at, releases_count = n.releases_count
    FROM unnest($20::uuid[], $21::uuid[], $22::text[], $23::int[], $24::int[], $25::int[], $26::int[], $27::bigint[],
                $28::timestamptz[], $29::timestamptz[], $30::int[], $31::timestamptz[], $32::int[])
        AS n (account_id, id, status, seats_limit, seats_allowed, seats_used, devices_pending, version,
              expires_at, activations_began_at, activations_count, releases_began_at, releases_count)
    WHERE l.account_id = ANY (ARRAY[n.account_id]) AND l.id = n.id
), put_audit AS (
    INSERT INTO audit (account_id, license_id, version, at, actor, event, device_id, generation, reason, seats_limit,
                       seats_used, seats_allowed)
    SELECT n.account_id, n.license_id, n.version, $45::timestamptz, n.actor, n.event, n.device_id, n.generation, n.reason,
           n.seats_limit, n.seats_used, n.seats_allowed
    FROM unnest($33::uuid[], $34::uuid[], $35::bigint[], $36::text[], $37::text[], $38::uuid[], $39::int[],
                $40::text[], $41::int[], $42::int[], $43::int[])
        AS n (account_id, license_id, version, actor, event, device_id, generation, reason, seats_limit, seats_used,
              seats_allowed)
)
INSERT INTO outbox (account_id, license_id, version, fact, created_at)
SELECT n.account_id, n.license_id, n.version, n.fact, $45::timestamptz
FROM unnest($33::uuid[], $34::uuid[], $35::bigint[], $44::text[]) AS n (account_id, license_id, version, fact);

-- name: use_tokens
UPDATE activation_token t
SET uses = t.uses + n.uses
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::int[]) AS n (account_id, license_id, id, uses)
WHERE t.account_id = ANY (ARRAY[n.account_id]) AND t.license_id = n.license_id AND t.id = n.id;

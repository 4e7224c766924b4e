-- The seals over the trail: made behind the ledger's transactions, and compared with the rows they speak for.
-- The trail's columns stand in the order of chain.py.

-- name: issued
-- The highest id that any transaction has taken.
SELECT CASE WHEN s.is_called THEN s.last_value ELSE 0 END FROM audit_id_seq s;

-- name: mark
-- A transaction's id of our own: every id of a row that was taken before is of a transaction with a lower one.
SELECT pg_current_xact_id()::text::bigint;

-- name: oldest
-- All transactions with lower ids than this have ended.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint;

-- name: take_turn
SELECT pg_try_advisory_xact_lock($1);

-- name: await_turn
SELECT pg_advisory_xact_lock($1);

-- name: head
SELECT s.number, s.kind, s.month, s.first_id, s.last_id, s.count, s.digest, s.marks, s.sealed_at, s.key_id, s.previous,
       s.hash, s.mac
FROM audit_seal s
ORDER BY s.number DESC
LIMIT 1;

-- name: now
SELECT ledger_clock();

-- name: rows
SELECT a.id, a.account_id, a.license_id, a.version, a.at, a.actor, a.event, a.device_id, a.generation, a.reason,
       a.seats_limit, a.seats_used, a.seats_allowed
FROM audit a
WHERE a.id BETWEEN $1 AND $2
ORDER BY a.id
LIMIT $3;

-- name: add
INSERT INTO audit_seal (number, kind, month, first_id, last_id, count, digest, marks, sealed_at, key_id, previous, hash,
                        mac)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13);

-- name: seals
SELECT s.number, s.kind, s.month, s.first_id, s.last_id, s.count, s.digest, s.marks, s.sealed_at, s.key_id, s.previous,
       s.hash, s.mac
FROM audit_seal s
WHERE s.number > $1
ORDER BY s.number
LIMIT $2;

-- name: dropped
SELECT s.number, s.kind, s.month, s.first_id, s.last_id, s.count, s.digest, s.marks, s.sealed_at, s.key_id, s.previous,
       s.hash, s.mac
FROM audit_seal s
WHERE s.kind = 'dropped'
ORDER BY s.number;

-- name: seal
SELECT s.number, s.kind, s.month, s.first_id, s.last_id, s.count, s.digest, s.marks, s.sealed_at, s.key_id, s.previous,
       s.hash, s.mac
FROM audit_seal s
WHERE s.number = $1;

-- name: range
-- All rows of a range, however many.
SELECT a.id, a.account_id, a.license_id, a.version, a.at, a.actor, a.event, a.device_id, a.generation, a.reason,
       a.seats_limit, a.seats_used, a.seats_allowed
FROM audit a
WHERE a.id BETWEEN $1 AND $2
ORDER BY a.id;

-- name: unsealed
-- A page of the rows after an id, with the version at which their license is.
SELECT a.id, a.account_id, a.license_id, a.version, a.event, l.version AS reached,
       a.at < (SELECT ledger_clock()) - make_interval(secs => $3) AS overdue
FROM (SELECT n.id, n.account_id, n.license_id, n.version, n.event, n.at FROM audit n WHERE n.id > $1 ORDER BY n.id LIMIT $2)
    AS a
LEFT JOIN license l ON l.account_id = ANY (ARRAY[a.account_id]) AND l.id = a.license_id
ORDER BY a.id;

-- name: licenses
-- A page of licenses after ($1, $2), with what the trail holds of each, as of one moment.
SELECT l.account_id, l.id, l.version, t.rows, t.first, t.last
FROM (
    SELECT n.account_id, n.id, n.version FROM license n WHERE (n.account_id, n.id) > ($1, $2)
    ORDER BY n.account_id, n.id LIMIT $3
) AS l
CROSS JOIN LATERAL (
    SELECT count(*) AS rows, min(a.version) AS first, max(a.version) AS last
    FROM audit a
    WHERE a.account_id = l.account_id AND a.license_id = l.id
) AS t
ORDER BY l.account_id, l.id;

-- name: untold
-- A page of facts after an id; `told` where the trail has the change of which the fact tells.
SELECT o.id, o.account_id, o.license_id, o.version, o.created_at AS at,
       EXISTS (
           SELECT FROM audit a
           WHERE a.account_id = o.account_id AND a.license_id = o.license_id AND a.version = o.version
             AND a.at BETWEEN o.created_at - interval '1 hour' AND o.created_at + interval '1 hour'
       ) AS told
FROM (SELECT n.id, n.account_id, n.license_id, n.version, n.created_at FROM outbox n WHERE n.id > $1 ORDER BY n.id LIMIT $2)
    AS o
ORDER BY o.id;

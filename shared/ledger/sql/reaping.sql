-- What the reaper reads, and the halts that it and its operators write. None of the devices found is decided about here.
-- A page is so many devices of the index on lease ends, whether or not they turn out to be due: a statement's time is
-- bounded however many are left alone. `x = ANY (ARRAY[y])` keeps plans on their indexes: see ledger.sql.

-- name: expired_devices
-- Leases past their end plus slack, of licenses that are not suspended and devices without an offline file.
WITH moment AS MATERIALIZED (
    SELECT ledger_clock() AS now
), scanned AS MATERIALIZED (
    SELECT d.account_id, d.license_id, d.id, d.generation, d.lease_expires_at, d.last_contact_at, d.offline_until,
           row_number() OVER (ORDER BY d.lease_expires_at, d.account_id, d.license_id, d.id) AS number
    FROM device d
    WHERE d.state = 'active'
      AND d.lease_expires_at <= (SELECT m.now FROM moment m)
      AND (d.lease_expires_at, d.account_id, d.license_id, d.id) > ($1, $2, $3, $4)
    ORDER BY d.lease_expires_at, d.account_id, d.license_id, d.id
    LIMIT $5
), judged AS (
    SELECT s.*, l.customer, l.key_prefix, p.lease_s >= 86400 AS long,
           l.status <> 'suspended' AND (s.offline_until IS NULL OR s.offline_until <= m.now)
               AND (p.lease_s < 86400 OR s.lease_expires_at <= m.now - interval '24 hours') AS due
    FROM moment m
    CROSS JOIN scanned s
    JOIN license l ON l.account_id = ANY (ARRAY[s.account_id]) AND l.id = s.license_id
    JOIN policy p ON p.account_id = ANY (ARRAY[l.account_id]) AND p.id = l.policy_id
        AND (p.account_id, p.id) >= (l.account_id, l.policy_id)
)
SELECT j.account_id, j.license_id, j.id, j.generation, j.lease_expires_at, j.last_contact_at, j.customer, j.key_prefix,
       j.long, j.due, j.number = $5 AS last
FROM judged j
WHERE j.due OR j.number = $5
ORDER BY j.account_id, j.license_id, j.id;

-- name: expiring_devices
-- Leases of a day or more whose end is near and was not announced.
WITH moment AS MATERIALIZED (
    SELECT ledger_clock() AS now
), scanned AS MATERIALIZED (
    SELECT d.account_id, d.license_id, d.id, d.generation, d.lease_expires_at, d.last_contact_at,
           row_number() OVER (ORDER BY d.lease_expires_at, d.account_id, d.license_id, d.id) AS number
    FROM device d
    WHERE d.state = 'active'
      AND d.lease_expires_at <= (SELECT m.now + interval '7 days' FROM moment m)
      AND d.announced_lease_end IS DISTINCT FROM d.lease_expires_at
      AND (d.lease_expires_at, d.account_id, d.license_id, d.id) > ($1, $2, $3, $4)
    ORDER BY d.lease_expires_at, d.account_id, d.license_id, d.id
    LIMIT $5
), judged AS (
    SELECT s.*, l.customer, l.key_prefix,
           l.status <> 'suspended' AND p.lease_s >= 86400
               AND s.lease_expires_at <= m.now + make_interval(secs => least(604800, p.lease_s / 10)) AS due
    FROM moment m
    CROSS JOIN scanned s
    JOIN license l ON l.account_id = ANY (ARRAY[s.account_id]) AND l.id = s.license_id
    JOIN policy p ON p.account_id = ANY (ARRAY[l.account_id]) AND p.id = l.policy_id
        AND (p.account_id, p.id) >= (l.account_id, l.policy_id)
)
SELECT j.account_id, j.license_id, j.id, j.generation, j.lease_expires_at, j.last_contact_at, j.customer, j.key_prefix,
       true AS long, j.due, j.number = $5 AS last
FROM judged j
WHERE j.due OR j.number = $5
ORDER BY j.account_id, j.license_id, j.id;

-- name: floating_devices
-- Floating leases that end within a day: all there are, since none is longer.
WITH scanned AS MATERIALIZED (
    SELECT d.account_id, d.license_id, d.id, d.generation, d.lease_expires_at, d.last_contact_at,
           row_number() OVER (ORDER BY d.lease_expires_at, d.account_id, d.license_id, d.id) AS number
    FROM device d
    WHERE d.state = 'active'
      AND d.lease_expires_at <= (SELECT ledger_clock()) + interval '24 hours'
      AND (d.lease_expires_at, d.account_id, d.license_id, d.id) > ($1, $2, $3, $4)
    ORDER BY d.lease_expires_at, d.account_id, d.license_id, d.id
    LIMIT $5
)
SELECT s.account_id, s.license_id, s.id, s.generation, s.lease_expires_at, s.last_contact_at, l.customer, l.key_prefix,
       p.lease_s >= 86400 AS long, p.kind = 'floating' AS due, s.number = $5 AS last
FROM scanned s
JOIN license l ON l.account_id = ANY (ARRAY[s.account_id]) AND l.id = s.license_id
JOIN policy p ON p.account_id = ANY (ARRAY[l.account_id]) AND p.id = l.policy_id
    AND (p.account_id, p.id) >= (l.account_id, l.policy_id)
WHERE p.kind = 'floating' OR s.number = $5
ORDER BY s.number;

-- name: ended_leases
-- A page as in expired_devices, counted: leases past their end by account and length, and how many of them are due.
-- Every row repeats where the page ends; there is one row at least.
WITH moment AS MATERIALIZED (
    SELECT ledger_clock() AS now
), scanned AS MATERIALIZED (
    SELECT d.account_id, d.license_id, d.id, d.lease_expires_at, d.offline_until,
           row_number() OVER (ORDER BY d.lease_expires_at, d.account_id, d.license_id, d.id) AS number
    FROM device d
    WHERE d.state = 'active'
      AND d.lease_expires_at <= (SELECT m.now FROM moment m)
      AND (d.lease_expires_at, d.account_id, d.license_id, d.id) > ($1, $2, $3, $4)
    ORDER BY d.lease_expires_at, d.account_id, d.license_id, d.id
    LIMIT $5
), counted AS (
    SELECT s.account_id, p.lease_s >= 86400 AS long, count(*) AS ended,
           count(*) FILTER (
               WHERE l.status <> 'suspended' AND (s.offline_until IS NULL OR s.offline_until <= m.now)
                 AND (p.lease_s < 86400 OR s.lease_expires_at <= m.now - interval '24 hours')
           ) AS due
    FROM moment m
    CROSS JOIN scanned s
    JOIN license l ON l.account_id = ANY (ARRAY[s.account_id]) AND l.id = s.license_id
    JOIN policy p ON p.account_id = ANY (ARRAY[l.account_id]) AND p.id = l.policy_id
        AND (p.account_id, p.id) >= (l.account_id, l.policy_id)
    GROUP BY s.account_id, p.lease_s >= 86400
)
SELECT c.account_id AS counted_account_id, c.long, c.ended, c.due, s.lease_expires_at, s.account_id, s.license_id, s.id
FROM moment m
LEFT JOIN scanned s ON s.number = $5
LEFT JOIN counted c ON true;

-- name: active_devices
SELECT wanted.account_id,
       (SELECT coalesce(sum(l.seats_used), 0) FROM license l WHERE l.account_id = wanted.account_id) AS active
FROM unnest($1::uuid[]) AS wanted (account_id);

-- name: look
-- The clock, the contacts of the last full hour and of the same hour a week before, and how the reaper stands.
WITH moment AS MATERIALIZED (
    SELECT m.now, date_trunc('hour', m.now, 'UTC') - interval '1 hour' AS hour FROM (SELECT ledger_clock() AS now) AS m
)
SELECT m.now,
       coalesce((SELECT c.contacts FROM contact_count c WHERE c.hour = m.hour), 0) AS contacts,
       coalesce((SELECT c.contacts FROM contact_count c WHERE c.hour = m.hour - interval '168 hours'), 0)
           AS contacts_week_before,
       r.account_id, r.not_before, r.halted_at, r.cause, r.detail, r.resumed_at, r.resumed_cause
FROM moment m
JOIN reaping r ON true;

-- name: halt
-- The first cause stays; a row comes back when it is this one.
INSERT INTO reaping AS r (account_id, halted_at, cause, detail) VALUES ($1, ledger_clock(), $2, $3)
ON CONFLICT (account_id) DO UPDATE
SET halted_at = excluded.halted_at, cause = excluded.cause, detail = excluded.detail
WHERE r.halted_at IS NULL
RETURNING r.account_id;

-- name: resume
UPDATE reaping
SET halted_at = NULL, cause = NULL, detail = NULL, resumed_at = ledger_clock(), resumed_cause = cause
WHERE account_id = $1 AND halted_at IS NOT NULL
RETURNING account_id;

-- name: hold
UPDATE reaping SET not_before = $1 WHERE account_id = '00000000-0000-0000-0000-000000000000';

-- name: hold_for
UPDATE reaping SET not_before = ledger_clock() + make_interval(secs => $1)
WHERE account_id = '00000000-0000-0000-0000-000000000000'
RETURNING not_before, (SELECT max(p.lease_s) FROM policy p) AS longest_lease_s;

-- name: leave_lost_epochs
-- A restored database knows an epoch that was raised since, a few times at most. Redis knows those later ones too.
UPDATE projection SET epoch = epoch + 1000 RETURNING epoch;

-- name: add_contacts
INSERT INTO contact_count AS c (hour, contacts) VALUES (date_trunc('hour', ledger_clock(), 'UTC'), $1)
ON CONFLICT (hour) DO UPDATE SET contacts = c.contacts + excluded.contacts;

-- name: last_contacts
SELECT hour, contacts FROM contact_count ORDER BY hour DESC LIMIT 1;

-- name: clear_contacts
DELETE FROM contact_count WHERE hour < (SELECT ledger_clock()) - interval '840 hours';

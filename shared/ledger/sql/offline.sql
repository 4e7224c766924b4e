-- Offline files and the keys that devices have shown for them. Rows are added, and files cleared away; none is changed.
-- `x = ANY (ARRAY[y])` keeps plans on their indexes: see ledger.sql.

-- name: bind_key
INSERT INTO offline_device (account_id, license_id, device_id, generation, device_key) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING;

-- name: key_of
SELECT device_key FROM offline_device
WHERE account_id = ANY (ARRAY[$1::uuid]) AND license_id = $2 AND device_id = $3 AND generation = $4;

-- name: keep_file
INSERT INTO offline_file (account_id, request, license_id, device_id, generation, file, expires_at, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, ledger_clock())
ON CONFLICT DO NOTHING;

-- name: find_file
SELECT license_id, file FROM offline_file WHERE account_id = ANY (ARRAY[$1::uuid]) AND request = $2;

-- name: clear_files
DELETE FROM offline_file WHERE (account_id, request) IN (
    SELECT account_id, request FROM offline_file
    WHERE expires_at < ledger_clock() - make_interval(secs => $1)
    ORDER BY expires_at LIMIT $2
);

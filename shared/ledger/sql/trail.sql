-- The months in which the trail is kept. The functions run as the schema's owner: see migrations/0004.

-- name: prepare
SELECT audit_prepare($1);

-- name: drop_before
SELECT audit_drop_before($1);

-- name: now
SELECT ledger_clock();

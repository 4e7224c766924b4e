-- Facts that were taken in. A consumer's rows decide whether a fact is new to it.

-- name: receive
-- Rows go in in the order of their key, so that two deliveries of the same facts never wait for each other in a ring.
-- A row that another transaction is writing is waited for: if that one fails, the fact is new here.
INSERT INTO inbox (account_id, license_id, version, consumer, received_at)
SELECT n.account_id, n.license_id, n.version, $4, ledger_clock()
FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS n (account_id, license_id, version)
ORDER BY n.account_id, n.license_id, n.version
ON CONFLICT DO NOTHING
RETURNING account_id, license_id, version;

-- name: clear
-- Rows are never changed, so each stays where it was found.
DELETE FROM inbox
WHERE ctid = ANY (ARRAY(
    SELECT i.ctid FROM inbox i
    WHERE i.received_at < (SELECT ledger_clock()) - make_interval(secs => $1)
    ORDER BY i.received_at
    LIMIT $2
));

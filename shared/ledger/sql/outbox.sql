-- Facts on their way out. Several relays may work side by side: rows that one holds are skipped by the others.

-- name: take
SELECT o.id, o.fact
FROM outbox o
WHERE o.sent_at IS NULL
ORDER BY o.id
LIMIT $1
FOR UPDATE SKIP LOCKED;

-- name: mark
UPDATE outbox SET sent_at = ledger_clock() WHERE id = ANY ($1::bigint[]);

-- name: clear
DELETE FROM outbox
WHERE id = ANY (ARRAY(
    SELECT o.id FROM outbox o
    WHERE o.sent_at < (SELECT ledger_clock()) - make_interval(secs => $1)
    ORDER BY o.sent_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
));

-- Facts on their way out.

-- name: take_turn
-- One relay at a time; the others wait here for their turn. Marking need not be flushed: a mark that a crash takes
-- back has its fact handed over again.
SELECT pg_advisory_xact_lock($1), set_config('synchronous_commit', 'off', true);

-- name: take
-- A statement of its own after the turn began: its snapshot holds what the relay before has marked. No row is passed
-- over because somebody holds it.
SELECT o.id, o.fact
FROM outbox o
WHERE o.sent_at IS NULL
ORDER BY o.id
LIMIT $1;

-- name: mark
UPDATE outbox SET sent_at = (SELECT ledger_clock()) WHERE id = ANY ($1::bigint[]);

-- name: clear
DELETE FROM outbox
WHERE id = ANY (ARRAY(
    SELECT o.id FROM outbox o
    WHERE o.sent_at < (SELECT ledger_clock()) - make_interval(secs => $1)
    ORDER BY o.sent_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
));

-- Facts that a consumer has taken in, written in the transaction of their effect: a fact that is delivered again finds
-- its row and does nothing.
CREATE TABLE inbox (
    account_id uuid NOT NULL,
    license_id uuid NOT NULL,
    version bigint NOT NULL,
    consumer text NOT NULL CHECK (length(consumer) BETWEEN 1 AND 100),
    received_at timestamptz NOT NULL,
    PRIMARY KEY (account_id, license_id, version, consumer)
);

CREATE INDEX inbox_received ON inbox (received_at);

-- Whoever consumes facts adds rows, finds those that are there, and clears away the old; none is ever changed.
GRANT SELECT, INSERT, DELETE ON inbox TO
    seatkeeper_activation, seatkeeper_heartbeat, seatkeeper_reaper, seatkeeper_portal, seatkeeper_standalone;

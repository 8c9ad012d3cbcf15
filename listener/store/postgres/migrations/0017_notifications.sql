-- What people were notified of, once for each receiver, whichever listener saw it. The row with an empty target says since
-- when anybody is notified.
CREATE TABLE notifications (
    key text NOT NULL,
    target text NOT NULL,
    kind text NOT NULL,
    facts text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    leased_until timestamptz NOT NULL DEFAULT '-infinity',
    ended_at timestamptz,
    outcome text NOT NULL DEFAULT '',
    PRIMARY KEY (key, target)
);
CREATE INDEX notifications_due ON notifications (due_at) WHERE ended_at IS NULL;
CREATE INDEX notifications_at ON notifications (at);

-- Calls to other systems that handlers record with their rows, and that listeners deliver afterwards.
CREATE TABLE effects (
    event_id text NOT NULL,
    number integer NOT NULL,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    kind text NOT NULL,
    url text NOT NULL,
    host text NOT NULL,
    headers text NOT NULL,
    body bytea NOT NULL,
    queue text,
    status text NOT NULL DEFAULT 'waiting',
    attempts integer NOT NULL DEFAULT 0,
    failure text,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    letter_id text,
    owner text NOT NULL DEFAULT '',
    leased_until timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (event_id, number)
);
CREATE UNIQUE INDEX effects_seq ON effects (seq);
CREATE INDEX effects_due ON effects (due_at) WHERE status = 'waiting';
CREATE INDEX effects_in_order ON effects (queue, seq) WHERE status = 'waiting' AND queue IS NOT NULL;
CREATE INDEX effects_ended ON effects (ended_at) WHERE status <> 'waiting';

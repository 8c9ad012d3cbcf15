-- The outcome of each audit of all events, the latest 1,000. `wrong` has the sums that should be 0 and are not, by column.
CREATE TABLE audits (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    who text NOT NULL,
    balanced boolean NOT NULL,
    accepted bigint NOT NULL,
    wrong jsonb NOT NULL
);

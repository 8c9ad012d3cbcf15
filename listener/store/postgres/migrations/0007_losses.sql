-- When PostgreSQL may have lost rows, and since when at most: the moment up to which the store had come then.
-- number: no sequence, because a restore must take back what it counted.
ALTER TABLE store ADD COLUMN grown_at timestamptz NOT NULL DEFAULT '-infinity';

CREATE TABLE losses (
    id text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    number bigint NOT NULL,
    since timestamptz NOT NULL,
    noticed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

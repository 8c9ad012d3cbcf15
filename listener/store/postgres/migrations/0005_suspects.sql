-- For how long a lease was granted; how many owners were lost while they ran the event alone; how many suspects the
-- present owner took over at once. What is claimed at this moment counts as no suspect.
ALTER TABLE claims
    ADD COLUMN span interval NOT NULL DEFAULT '1 hour',
    ADD COLUMN alone integer NOT NULL DEFAULT 0,
    ADD COLUMN company integer NOT NULL DEFAULT 0;

ALTER TABLE claims
    ALTER COLUMN span DROP DEFAULT,
    ALTER COLUMN alone DROP DEFAULT,
    ALTER COLUMN company DROP DEFAULT;

-- Which store this is, and how far it has come: a restored one has come less far than others remember.
CREATE TABLE store (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    generation text NOT NULL DEFAULT gen_random_uuid()::text,
    version bigint NOT NULL DEFAULT 0
);

INSERT INTO store DEFAULT VALUES;

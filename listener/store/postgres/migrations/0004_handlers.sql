-- Which handler stored a row; and which each listener has: all members of a group have the same.
ALTER TABLE events ADD COLUMN handler text;

-- agreed: no live listener that had agreed before had another handler, or this one may change it. A replay is no listener.
ALTER TABLE listeners
    ADD COLUMN handler text,
    ADD COLUMN listens boolean NOT NULL DEFAULT true,
    ADD COLUMN agreed boolean NOT NULL DEFAULT true;

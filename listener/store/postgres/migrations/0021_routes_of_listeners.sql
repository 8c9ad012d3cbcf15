-- The routes of each listener's handler, so that a pause of one that nobody has is refused. Null: an older listener.
ALTER TABLE listeners ADD COLUMN routes text[];

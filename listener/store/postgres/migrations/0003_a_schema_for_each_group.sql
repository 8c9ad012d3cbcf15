-- Each group has a schema of its own, so nothing in it needs to name the group.
-- Dropping the column drops the primary key that it was part of.
ALTER TABLE listeners DROP COLUMN group_name;
ALTER TABLE listeners ADD PRIMARY KEY (token);

ALTER TABLE claims DROP COLUMN group_name;
ALTER TABLE claims ADD PRIMARY KEY (event_id);

ALTER TABLE buried DROP COLUMN group_name;
ALTER TABLE buried ADD PRIMARY KEY (event_id);

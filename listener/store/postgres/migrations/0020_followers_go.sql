-- Whether later events of a letter's key go on without it, which the record of its archiving says.
ALTER TABLE letter_records ADD COLUMN followers text;

-- Whether nothing is read while this letter blocks its key, as its route or the group says. Null: written before letters said so.
ALTER TABLE buried ADD COLUMN stops boolean;
CREATE INDEX buried_that_stop ON buried (event_id) WHERE order_key IS NOT NULL AND stops IS NOT FALSE;

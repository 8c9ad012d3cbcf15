-- A letter's new state is a new row version, and costs an entry in every index of letters. So what never changes is
-- indexed beside the line. The beginnings of event ids serve whole ids too.
CREATE INDEX letter_lines_reversed ON letter_lines (reverse(letter_id));
DROP INDEX letters_reversed;
DROP INDEX letters_event;

-- What gave up healing lately. Notifications look for it, and most letters that need a human did that long ago.
CREATE INDEX letters_gave_up ON letters ((coalesce(state_at, last_at)))
    WHERE status IN ('open', 'failed') AND heal_at IS NULL AND heals;

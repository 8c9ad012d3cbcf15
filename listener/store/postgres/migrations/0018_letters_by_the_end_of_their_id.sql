-- Letters are named by the end of their id too, as terminals show it.
CREATE INDEX letters_reversed ON letters (reverse(letter_id));

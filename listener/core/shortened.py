"""Shortens texts of errors. Pure."""

import re

LONGEST_VALUE = 1_000
"""So far back a value is looked for that a cut would split."""
_value = re.compile(r"(?:://|=)([^\s\"'<>]*)\Z")
_rest = re.compile(r"[^\s\"'<>]*")
_begun = re.compile(r"[^\s\"'<>]+\Z")


def shortened(text: str, width: int) -> str:
    """The text in at most ``width`` characters: its beginning, and its last line, where errors name their cause."""
    if len(text) <= width:
        return text
    text = text.rstrip()
    last = min(len(text.rpartition("\n")[2]), width // 2)
    return text if len(text) <= width else "…".join(ends_of(text, width - 1 - last, last))


def ends_of(text: str, first: int, last: int) -> tuple[str, str]:
    """The first and the last characters of a longer text, without parts of an address or of a ``name=value``.

    Passwords are masked later, and could not be recognised in a part.
    """
    end, begin = first, len(text) - last
    if found := _value.search(text, max(0, end - LONGEST_VALUE), end):
        end = found.start(1)
    # The cut may also split the name of a value, or the "://" of an address.
    if (cut := _begun.search(text, max(0, begin - LONGEST_VALUE), begin)) and (rest := _rest.match(text, begin)):
        whole = text[cut.start() : rest.end()]
        begin = rest.end() if "=" in whole or "://" in whole else begin
    return text[:end], text[begin:]


def first_and_last_line(text: str) -> str:
    """The text of an error on one line, without the lines between the first and the last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " … ".join((lines[0], lines[-1])) if len(lines) > 1 else text

"""Makes foreign text safe to print: it cannot control the terminal, nor reverse the direction of text. Pure.

All characters that Python does not consider printable are escaped. These are control characters (C0, and C1 such as
U+009B, which many terminals read as ESC [), and format characters (bidirectional overrides such as U+202E and U+2066,
zero-width ones). So are separators other than the space, lone surrogates, and unassigned code points.
"""

from collections.abc import Callable


def printable(text: str) -> str:
    """The text on one line, with Python's escapes."""
    return text if text.isprintable() else _escaped(text, _as_python)


def printable_lines(text: str) -> str:
    """Like ``printable``, for text that may have several lines."""
    return "\n".join(map(printable, text.split("\n")))


def printable_json(text: str) -> str:
    """JSON text with the same meaning; unprintable characters become JSON escapes within strings."""
    return "\n".join(line if line.isprintable() else _escaped(line, _as_json) for line in text.split("\n"))


def _escaped(text: str, escape: Callable[[str], str]) -> str:
    return "".join(one if one.isprintable() else escape(one) for one in text)


def _as_python(one: str) -> str:
    return one.encode("unicode_escape").decode()


def _as_json(one: str) -> str:
    # JSON forbids raw tabs and carriage returns within strings, so these are between tokens: a space will do.
    if one in "\t\r":
        return " "
    units = one.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))

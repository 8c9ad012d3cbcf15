"""Text of others on our terminals: nothing that drives a terminal, or turns its text around, gets through. Pure.

Escaped is everything that Python calls not printable: control characters (C0, and C1 such as U+009B, which many
terminals read as ESC [), format characters (bidirectional overrides such as U+202E and U+2066, zero-width ones),
separators other than the space, lone surrogates, and what no character is assigned to.
"""

from collections.abc import Callable


def printable(text: str) -> str:
    """The text on one line, as Python would escape it."""
    return text if text.isprintable() else _escaped(text, _as_python)


def printable_lines(text: str) -> str:
    """The same for text that may have several lines."""
    return "\n".join(map(printable, text.split("\n")))


def printable_json(text: str) -> str:
    """JSON text that means the same: escapes stand where they may, which is within strings."""
    return "\n".join(line if line.isprintable() else _escaped(line, _as_json) for line in text.split("\n"))


def _escaped(text: str, escape: Callable[[str], str]) -> str:
    return "".join(one if one.isprintable() else escape(one) for one in text)


def _as_python(one: str) -> str:
    return one.encode("unicode_escape").decode()


def _as_json(one: str) -> str:
    # JSON forbids raw tabs and carriage returns within strings, so these stand between tokens.
    if one in "\t\r":
        return " "
    units = one.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))

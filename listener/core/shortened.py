"""Shortens texts of errors. Pure."""


def shortened(text: str, width: int) -> str:
    """The text in at most ``width`` characters: its beginning, and its last line, where errors name their cause."""
    if len(text) <= width:
        return text
    text = text.rstrip()
    last = min(len(text.rpartition("\n")[2]), width // 2)
    return text if len(text) <= width else f"{text[: width - 1 - last]}…{text[len(text) - last :]}"


def first_and_last_line(text: str) -> str:
    """The text of an error on one line, without the lines between the first and the last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " … ".join((lines[0], lines[-1])) if len(lines) > 1 else text

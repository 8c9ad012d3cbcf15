"""Numbers of things in messages."""


def counted(number: int, one: str, several: str = "") -> str:
    """``1 letter``, ``2,000 letters``. ``several``: the plural, if it is not the word with an s."""
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"

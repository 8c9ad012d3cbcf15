"""Finds a secret that is typed into a profile: into a message, an address, or a header. Pure.

A message is mostly JSON, sometimes a form. A field is taken for a secret by its name, and only if its value is a text
that is written out: not one from outside (``${NAME}``), and not one of a message (``{path}``). The default of a
variable is written out, too.
"""

import re

_NAME = r"""(?:token|secret|password|passwd|passphrase|api[-_]?key|private[-_]?key|access[-_]?key|signature|jwt|
    authori[sz]ation|cookie|credentials?)"""
_SECRET = re.compile(rf"{_NAME}|(?:\A|[-_])(?:auth|bearer)\Z|\Akey\Z|\bsig\b", re.IGNORECASE | re.VERBOSE)
_FIELDS = (
    re.compile(rf'"(?P<name>[\w-]*{_NAME})"\s*:\s*"(?P<value>(?:[^"\\]|\\.)*)"', re.IGNORECASE | re.VERBOSE),
    re.compile(rf"(?:\A|&)(?P<name>[\w-]*{_NAME})=(?P<value>[^&]*)", re.IGNORECASE | re.VERBOSE),
)
_VARIABLE = re.compile(r"\$\{\w+(?::-)?\}")
"""A default that is not empty would be a secret, too."""
_PATH = re.compile(r"\{[^{}]*\}")
_SCHEME = re.compile(r"\s*(?:bearer|basic|bot)?\s*", re.IGNORECASE)


def secret_in(text: str) -> str | None:
    """Return the name of the first field with a secret that is written out; None if there is none."""
    for form in _FIELDS:
        for found in form.finditer(text):
            if is_written_out(found["value"]):
                return found["name"]
    return None


def names_secret(name: str) -> bool:
    """Whether a header, or a value in an address, is a secret by its name."""
    return _SECRET.search(name) is not None


def is_written_out(value: str) -> bool:
    """Whether a text holds more than what comes from outside or from a message."""
    if _VARIABLE.search(value):
        rest = _VARIABLE.sub("", value)
        return "${" in rest  # another variable, with a default
    if _PATH.fullmatch(value):
        return False
    return not _SCHEME.fullmatch(value)

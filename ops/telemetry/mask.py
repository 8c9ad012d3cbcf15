"""Passwords never leave the process: one rule that hides them in any text.

Hidden is what stands between ``scheme://user:`` and the last ``@`` of that word, and the value of
``password=`` in a query. It rather hides too much than too little.
"""

import re

MASK = "***"
_userinfo = re.compile(r"(?P<head>[A-Za-z][A-Za-z0-9+.-]*://[^\s:@/\"'<>]*):[^\s\"'<>]*@")
_query = re.compile(r"(?P<head>(?:password|passwd|pwd|token)=)[^\s&\"'<>]+", re.IGNORECASE)


def masked(text: str) -> str:
    """``text`` with every password in a URL replaced by ``***``."""
    if "://" in text:
        text = _userinfo.sub(rf"\g<head>:{MASK}@", text)
    if "=" in text:
        text = _query.sub(rf"\g<head>{MASK}", text)
    return text

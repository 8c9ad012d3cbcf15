"""A sign-in that has begun: its state, nonce and PKCE verifier. Pure.

All three are made of a random value, which the browser keeps in a cookie, and of a secret of this process. So an
attempt needs no memory here, however many strangers begin one. The address to which the provider sends the browser back
is not enough to end the sign-in in another browser, which has another cookie.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass

PATIENCE = 600
"""Seconds from the beginning of a sign-in to its end."""
COOKIE = "unlost-signin"
HOST_COOKIE = f"__Host-{COOKIE}"
_form = re.compile(r"(\d{1,12})\.[A-Za-z0-9_-]{43}", re.ASCII)


@dataclass(frozen=True, slots=True)
class SignInAttempt:
    """``cookie``: what the browser keeps."""

    cookie: str
    state: str
    nonce: str
    verifier: str

    @property
    def challenge(self) -> str:
        """The verifier's digest, which the provider sees first (S256)."""
        return _text(hashlib.sha256(self.verifier.encode()).digest())


class Attempts:
    """Begins attempts, and knows them again."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """``clock``: seconds, of any beginning."""
        self._clock = clock
        self._secret = secrets.token_bytes(32)

    def begin(self) -> SignInAttempt:
        """Begin one."""
        return self._made(f"{int(self._clock())}.{secrets.token_urlsafe(32)}")

    def known(self, cookie: str, state: str) -> SignInAttempt | None:
        """Return the attempt of this browser, if it is the one that the provider answers, and not too old."""
        found = _form.fullmatch(cookie)
        if found is None or not 0 <= self._clock() - int(found[1]) <= PATIENCE:
            return None
        attempt = self._made(cookie)
        return attempt if hmac.compare_digest(attempt.state.encode(), state.encode("utf-8", "replace")) else None

    def _made(self, cookie: str) -> SignInAttempt:
        state, nonce, verifier = (
            _text(hmac.digest(self._secret, f"{name} {cookie}".encode(), hashlib.sha256))
            for name in ("state", "nonce", "verifier")
        )
        return SignInAttempt(cookie, state, nonce, verifier)


def _text(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")

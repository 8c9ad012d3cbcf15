"""The other side: a receiver that verifies webhooks, and does the work of each once. Call it from your framework."""

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping

TOLERANCE = 300.0
"""Seconds that a call may be late. An older one may be a copy that somebody recorded."""


class Receiver:
    def __init__(self, secret: str) -> None:
        self._secret = base64.b64decode(secret.removeprefix("whsec_"))
        self._seen: set[str] = set()  # in a real receiver: a table with a unique key, in the transaction of the work
        self.done: list[bytes] = []

    def receive(self, headers: Mapping[str, str], body: bytes) -> int:
        """Return the HTTP status to answer with."""
        key, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        digest = hmac.digest(self._secret, f"{key}.{at}.".encode() + body, hashlib.sha256)
        expected = f"v1,{base64.b64encode(digest).decode()}".encode()
        signatures = headers.get("webhook-signature", "").encode().split(b" ")
        if not any(hmac.compare_digest(one, expected) for one in signatures):
            return 401
        if abs(time.time() - int(at)) > TOLERANCE:
            return 401
        if key not in self._seen:
            self._seen.add(key)
            self.done.append(body)
        return 204

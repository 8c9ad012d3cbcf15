"""Secrets for each host, and the signature of Standard Webhooks. Pure.

A secret is given for one host: a receiver that knows it could otherwise sign calls to all others. While a secret is
replaced, two may be given for a host; the header then has a signature of each.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence

PREFIX = "whsec_"
SHORTEST, LONGEST = 24, 64
"""Bytes of a secret, as Standard Webhooks has it."""


def by_host(text: str) -> dict[str, list[str]]:
    """Read ``host=value`` words; ``ValueError`` says what is wrong, without a value."""
    found: dict[str, list[str]] = {}
    for number, word in enumerate(text.split(), 1):
        host, equals, value = word.partition("=")
        if not equals or not host or not value:
            raise ValueError(f"word {number} is not written host=value")
        if ":" in host and not host.startswith("["):
            raise ValueError(f"word {number} names a port: write the host alone, as in hooks.example.com=value")
        found.setdefault(host.lower(), []).append(value)
    return found


def secrets_of(text: str) -> dict[str, list[bytes]]:
    """Read the secrets of hosts, each ``whsec_`` and base64."""
    return {host: [_secret(host, value) for value in values] for host, values in by_host(text).items()}


def _secret(host: str, value: str) -> bytes:
    try:
        secret = base64.b64decode(value.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise ValueError(f"the secret of {host} is not base64") from None
    if not SHORTEST <= len(secret) <= LONGEST:
        raise ValueError(f"the secret of {host} has {len(secret)} bytes, and {SHORTEST} to {LONGEST} are allowed")
    return secret


def signed(secrets: Sequence[bytes], key: str, at: int, body: bytes) -> Mapping[str, str]:
    """Return the headers of Standard Webhooks. Without a secret there is no signature."""
    headers = {"webhook-id": key, "webhook-timestamp": str(at), "idempotency-key": key}
    if secrets:
        content = f"{key}.{at}.".encode() + body
        digests = [base64.b64encode(hmac.digest(one, content, hashlib.sha256)).decode() for one in secrets]
        headers["webhook-signature"] = " ".join(f"v1,{one}" for one in digests)
    return headers

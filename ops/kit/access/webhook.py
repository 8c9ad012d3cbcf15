"""Signatures of Standard Webhooks: HMAC-SHA256 over id, time and body. Pure.

A sender that cannot keep a token safe on the way signs what it publishes; a listener signs its effects. The secret
never travels. While a secret is replaced there are two, and a request carries a signature of each: one that fits is
enough.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
PREFIX, VERSION = "whsec_", "v1,"
SHORTEST, LONGEST = 24, 64
"""Bytes of a secret, as Standard Webhooks has it."""
TOLERANCE = 300
"""Seconds that a request may be old, or early by the sender's clock."""
LONGEST_ID = 256
MOST_SIGNATURES = 8
MOST_SECRETS = 64
"""Each may be tried for each request, so they are few."""
_name = re.compile(r"[A-Za-z0-9@._:/-]{1,128}")
_id = re.compile(rf"[\x21-\x2d\x2f-\x7e]{{1,{LONGEST_ID}}}")
"""Without a dot: it stands between the parts that are signed."""
_seconds = re.compile(r"\d{1,12}")


class WrongSecrets(ValueError):
    """The secrets cannot be used; the text says why, and shows none."""


class BadSignature(Exception):
    """A request that no known sender has signed now."""


def secrets_of(text: str) -> Mapping[str, Sequence[bytes]]:
    """Read lines ``name=whsec_…``. A name may stand on two, while its secret is replaced. Raises ``WrongSecrets``."""
    found: dict[str, list[bytes]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, value = line.strip().partition("=")
        if not _name.fullmatch(name) or not value.startswith(PREFIX):
            raise WrongSecrets(f"line {number} is not written name={PREFIX}…")
        found.setdefault(name, []).append(secret_of(value, f"line {number}: the secret"))
    if sum(map(len, found.values())) > MOST_SECRETS:
        raise WrongSecrets(f"it has more than {MOST_SECRETS} secrets")
    return found


def secret_of(value: str, whose: str) -> bytes:
    """Read one secret. Raises ``WrongSecrets``, which names it by ``whose``."""
    try:
        secret = base64.b64decode(value.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise WrongSecrets(f"{whose} is not base64") from None
    if not SHORTEST <= len(secret) <= LONGEST:
        raise WrongSecrets(f"{whose} has {len(secret)} bytes, and {SHORTEST} to {LONGEST} are allowed")
    return secret


def identity_name(sender: str) -> str:
    """The name of a sender as an identity. No token can have it, since it has a space."""
    return f"sender {sender}"


def signature(secret: bytes, key: str, at: str, body: bytes) -> str:
    """The signature of a request: ``key`` is its id, ``at`` its time."""
    digest = hmac.digest(secret, f"{key}.{at}.".encode() + body, hashlib.sha256)
    return VERSION + base64.b64encode(digest).decode()


def signed(secrets: Sequence[bytes], key: str, at: int, body: bytes) -> Mapping[str, str]:
    """Return the headers of a request, with a signature of each secret. Without a secret there is no signature."""
    headers = {ID: key, TIMESTAMP: str(at), "idempotency-key": key}
    if secrets:
        headers[SIGNATURE] = " ".join(signature(one, key, str(at), body) for one in secrets)
    return headers


def claimed(headers: Mapping[str, Sequence[str]], now: float) -> tuple[str, str, list[str]]:
    """Id, time and signatures of a request whose body is not read yet. Raises ``BadSignature``."""
    values = [headers.get(name, ()) for name in (ID, TIMESTAMP, SIGNATURE)]
    if any(len(one) != 1 for one in values):
        raise BadSignature(f"a signed request has {ID}, {TIMESTAMP} and {SIGNATURE}, each once")
    (key,), (at,), (given,) = values
    if not _id.fullmatch(key):
        raise BadSignature(f"{ID} has 1 to {LONGEST_ID} visible ASCII characters and no dot")
    if not _seconds.fullmatch(at) or abs(now - int(at)) > TOLERANCE:
        raise BadSignature(f"{TIMESTAMP} is not within {TOLERANCE} s of this server's time")
    return key, at, [one for one in given.split() if one.startswith(VERSION)][:MOST_SIGNATURES]


def sender_of(secrets: Mapping[str, Sequence[bytes]], key: str, at: str, given: Sequence[str], body: bytes) -> str:
    """The name of the sender that signed this. Raises ``BadSignature``. All secrets are tried, in constant time."""
    found = ""
    for name, theirs in secrets.items():
        for secret in theirs:
            right = signature(secret, key, at, body).encode()
            if any(hmac.compare_digest(right, one.encode("ascii", "replace")) for one in given):
                found = found or name
    if not found:
        raise BadSignature("the signature is of no sender that this server knows")
    return found

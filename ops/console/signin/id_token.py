"""The ID token: its signature, issuer, audience, times and nonce, and the person that it names. No input or output.

Only signatures by private keys are accepted: with ``none`` or HMAC, whoever reads the public key could sign.
"""

import hmac
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, KeySetSerialization

from unlost.ops.console.signin.failed import SignInFailed, provider_failed
from unlost.ops.kit.access.middleware import PERSON
from unlost.ops.kit.access.request import Person

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
LEEWAY = 60
"""Seconds by which the provider's clock may differ from ours."""
LONGEST_SUBJECT = 255
"""As OpenID Connect has it."""
MOST_GROUPS = 1_000
Claims = Mapping[str, Any]


def verified(token: str, keys: object, *, issuer: str, client_id: str, nonce: str) -> Claims:
    """Return the claims of a token that is meant for us, now. Raises ``SignInFailed``."""
    essential = {name: {"essential": True} for name in ("exp", "iat", "sub")}
    registry = jwt.JWTClaimsRegistry(
        now=lambda: int(time.time()), leeway=LEEWAY,
        iss={"essential": True, "value": issuer}, aud={"essential": True, "value": client_id},
        **cast("dict[str, jwt.ClaimsOption]", essential),
    )  # fmt: skip
    try:
        known = KeySet.import_key_set(cast("KeySetSerialization", keys))
        claims = jwt.decode(token, known, algorithms=ALGORITHMS).claims
        registry.validate(claims)
    except JoseError as error:
        raise provider_failed(f"sent an ID token that is not valid: {error.description or error.error}") from None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise provider_failed(f"sent an ID token or keys that cannot be read ({type(error).__name__})") from None
    _check_party(claims, client_id)
    if not hmac.compare_digest(str(claims.get("nonce")).encode("utf-8", "replace"), nonce.encode()):
        raise provider_failed("sent an ID token of another sign-in: its nonce is not ours")
    return claims


def _check_party(claims: Claims, client_id: str) -> None:
    """A token for several audiences says which of them asked for it."""
    several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if claims.get("azp", None if several else client_id) != client_id:
        raise provider_failed("sent an ID token that another client asked for (azp)")


def person_of(claims: Claims, groups_claim: str) -> Person:
    """Return the person. Names may be equal or change, and the subject does not. Raises ``SignInFailed``."""
    subject = claims["sub"]
    if not (subject.isascii() and subject.isprintable() and 0 < len(subject) <= LONGEST_SUBJECT):
        raise provider_failed("sent a subject (sub) that is not 1 to 255 printable ASCII characters")
    mail = claims.get("email") if claims.get("email_verified", True) is True else None
    for name in (claims.get("preferred_username"), mail):
        if isinstance(name, str) and name != subject and PERSON.fullmatch(name):
            return Person(f"{name} (oidc {subject})", _groups(claims, groups_claim))
    return Person(f"{subject} (oidc)", _groups(claims, groups_claim))


def _groups(claims: Claims, name: str) -> tuple[str, ...]:
    found = _at(claims, name)
    groups = [found] if isinstance(found, str) else found
    if not isinstance(groups, Sequence) or not all(isinstance(one, str) for one in groups):
        raise SignInFailed(
            f"the ID token has no groups in the claim {name}: let the provider add them, or set OIDC_CLAIM", status=403
        )
    return tuple(groups[:MOST_GROUPS])


def _at(claims: Claims, name: str) -> object:
    """A claim by its name, or by a path such as ``realm_access.roles``. A name may contain dots itself."""
    if name in claims:
        return claims[name]
    found: object = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found

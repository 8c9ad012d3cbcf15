"""Why somebody was not signed in, in one sentence."""

from typing import Literal


class SignInFailed(Exception):
    """``reason``: ``provider`` if the identity provider failed, ``signin`` if what came from the browser is refused."""

    def __init__(self, why: str, *, status: int = 403, reason: Literal["signin", "provider"] = "signin") -> None:
        super().__init__(why)
        self.why = why
        self.status = status
        self.reason = reason


def provider_failed(why: str) -> SignInFailed:
    """The provider is away, or its answer is of no use. ``why`` continues "the identity provider …"."""
    return SignInFailed(f"the identity provider {why}", status=502, reason="provider")

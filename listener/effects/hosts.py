"""The credentials of effects for each host: secrets that sign them, and tokens. Pure.

Each is given for one host: a receiver that knows a secret could otherwise sign calls to all others. While one is
replaced, two may be given for a host.
"""

from unlost.ops.kit.access.webhook import secret_of


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
    return {
        host: [secret_of(value, f"the secret of {host}") for value in values] for host, values in by_host(text).items()
    }

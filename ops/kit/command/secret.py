"""Values that must not be shown: ``str`` and ``repr`` are masked; only ``reveal()`` returns the value."""

import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from unlost.ops.kit.telemetry.mask import MASK, masked

_HOST = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(:\d*)?")
_SERVERS = ("postgres", "redis", "rediss", "amqp", "nats")
"""The beginnings of schemes whose paths have no ``@``."""


class Secret:
    """A text that is never shown, such as a password."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The real value, for the call that needs it."""
        return self._value

    def __str__(self) -> str:
        return MASK if self._value else ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((type(self), self._value))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._validated, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def _validated(cls, value: object) -> "Secret":
        if isinstance(value, cls):
            return value
        if not isinstance(value, str):
            raise ValueError("must be text")  # noqa: TRY004 - pydantic reports ValueError only
        return cls(value)


class SecretUrl(Secret):
    """A URL whose password is masked; host and path stay readable."""

    __slots__ = ()

    def __str__(self) -> str:
        scheme, _, rest = self._value.partition("://")
        if "@" not in rest:
            return masked(self._value)
        # All of it is one URL, so everything before the last @ is user information, whatever characters a password has.
        return masked(f"{scheme}://{MASK}@{rest.rpartition('@')[2]}")

    @classmethod
    def _validated(cls, value: object) -> "Secret":
        if isinstance(value, str) and "://" not in value:
            raise ValueError("must be a URL such as scheme://host:port/name (before the host: user:pw@)")
        if isinstance(value, str):
            _check_hosts(value)
        return super()._validated(value)


class PathOrUrl(SecretUrl):
    """The path of a file, or a URL whose password is masked."""

    __slots__ = ()

    def __str__(self) -> str:
        return super().__str__() if self.path is None else self._value

    @property
    def path(self) -> Path | None:
        """The path; None if it is a URL."""
        return None if "://" in self._value else Path(self._value)

    @classmethod
    def _validated(cls, value: object) -> "Secret":
        if isinstance(value, Path):
            return cls(str(value))
        if isinstance(value, str):
            _check_hosts(value)
        return super(SecretUrl, cls)._validated(value)


class SecretUrls(Secret):
    """URLs, or other words, with spaces between them. Passwords are masked."""

    __slots__ = ()

    def __str__(self) -> str:
        return " ".join(str(SecretUrl(one)) if "://" in one else masked(one) for one in self._value.split())

    @classmethod
    def _validated(cls, value: object) -> "Secret":
        for one in value.split() if isinstance(value, str) else ():
            _check_hosts(one)
        return super()._validated(value)


def _check_hosts(url: str) -> None:
    """Refuse a URL without readable hosts and ports, before a library does.

    For the library, a slash in a password ends the host. Its message would quote the password as a port, or the rest of
    it as the name of a database.
    """
    scheme, _, rest = url.partition("://")
    begin, *more = re.split("[/?#]", rest, maxsplit=1)
    user, _, hosts = begin.rpartition("@")
    hides = not user and scheme.startswith(_SERVERS) and "@" in "".join(more).partition("?")[0]
    if hides or not all(_HOST.fullmatch(one) for one in hosts.split(",")):
        raise ValueError(
            "has no host and port that can be read; in a user name or password, write / ? # @ : [ ] as "
            "%2F %3F %23 %40 %3A %5B %5D"
        )


def _web_address(value: str) -> str:
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good:
        raise ValueError(f"must be an address such as http://127.0.0.1:3000, not {masked(value)!r}")
    return value.rstrip("/")


WebAddress = Annotated[str, AfterValidator(_web_address)]
"""The base URL of an HTTP endpoint, without a trailing slash."""

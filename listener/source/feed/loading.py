"""Reads a profile: TOML into keys. All mistakes are reported together, each with its line."""

import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from unlost.listener.core.errors import Misconfigured
from unlost.listener.source.feed.profile import Profile
from unlost.listener.source.feed.variables import Variables

LARGEST_PROFILE = 262_144
_KEY = re.compile(r"""\s*(["']?)([\w$.-]+)\1\s*=""")
_TABLE = re.compile(r"\s*\[(\[?)\s*([\w.-]+)\s*\]\]?")
_SHIPPED = files(__package__) / "shipped"

Location = tuple[str | int, ...]


class Loaded:
    """A checked profile. Variables in its texts are not filled in yet."""

    def __init__(self, name: str, profile: Profile, variables: Variables) -> None:
        self.name = name
        self.profile = profile
        self.variables = variables


def shipped() -> Sequence[str]:
    """Return the names of the shipped profiles."""
    return sorted(one.name.removesuffix(".toml") for one in _SHIPPED.iterdir() if one.name.endswith(".toml"))


def text_of(name: str) -> str:
    """Return the text of a shipped profile or of a file."""
    if name in shipped():
        return (_SHIPPED / f"{name}.toml").read_text(encoding="utf-8")
    path = Path(name)
    try:
        if path.stat().st_size > LARGEST_PROFILE:
            raise Misconfigured(f"{name} has more than {LARGEST_PROFILE:,} bytes: it is no profile")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(shipped())
        raise Misconfigured(f"the profile {name} cannot be read: {error}. Shipped profiles: {known}") from None


def about(text: str) -> str:
    """Return the first sentence of a profile's opening comment."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return " ".join(lines).partition(". ")[0].rstrip(".")


def load(name: str, environment: Mapping[str, str]) -> Loaded:
    """Read a shipped profile, or the file of this name; ``Misconfigured`` lists all mistakes."""
    return parse(text_of(name), name, environment)


def parse(text: str, name: str, environment: Mapping[str, str]) -> Loaded:
    """Read the text of a profile."""
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Misconfigured(f"{name}: not TOML: {error}") from None
    variables = Variables(environment)
    found: list[tuple[Location, str]] = list(variables.mistakes(given))
    profile: Profile | None = None
    try:
        profile = Profile.model_validate({key: _known_now(key, value, variables) for key, value in given.items()})
    except ValidationError as error:
        found += [(one["loc"], _sentence(dict(one))) for one in error.errors(include_url=False)]
    if found or profile is None:
        lines = sorted((line_of(text, at), at, why) for at, why in _once(found))
        raise Misconfigured(*(f"{name}, line {line}: {_named(at)}{why}" for line, at, why in lines))
    return Loaded(Path(name).name.removesuffix(".toml"), profile, variables)


SENDING = frozenset(("url", "url_from", "open", "reply", "heartbeat", "resume", "ack", "backfill", "wire"))
"""Keys with texts that are sent."""
SENT = frozenset(
    ("send", "message", "url", "headers", "body", "start", "subprotocols", "proxy", "ca", "cert", "key")
)  # fmt: skip
"""Those texts, in the tables of these keys. They are filled in for each connection: a secret may be a new one."""


def _known_now(key: str, value: Any, variables: Variables) -> Any:
    """Fill in what says how to read messages, paths and conditions: all but what is sent."""
    try:
        return _but_sent(value, variables) if key in SENDING else variables.fill_all(value)
    except ValueError:
        return value  # reported already


def _but_sent(value: Any, variables: Variables) -> Any:
    if isinstance(value, list):
        return [_but_sent(one, variables) for one in value]
    if isinstance(value, dict):
        return {key: one if key in SENT else variables.fill_all(one) for key, one in value.items()}
    return value


def _once(found: Sequence[tuple[Location, str]]) -> list[tuple[Location, str]]:
    """Keep one mistake for each key: alternatives of a type each report one."""
    kept: dict[tuple[str, ...], tuple[Location, str]] = {}
    for at, why in found:
        written = tuple(part for part in map(str, at) if re.fullmatch(r"[\w$.-]+", part) and part not in _KINDS)
        kept.setdefault(written, (tuple(written), why))
    return list(kept.values())


_KINDS = frozenset(("float", "str", "int", "dict", "constrained-float"))
"""Names that pydantic uses for alternatives of a type, among the keys of a mistake's location."""


def _sentence(error: dict[str, Any]) -> str:
    match error["type"]:
        case "extra_forbidden":
            return "there is no such key"
        case "missing":
            return "is missing"
        case "model_type" | "dict_type":
            return "must be a table, written { key = value }"
        case _:
            reason = str(error["msg"]).removeprefix("Value error, ")
            return reason[:1].lower() + reason[1:]


def _named(at: Location) -> str:
    name = "".join(f"[{part}]" if str(part).isdigit() else f".{part}" for part in at).removeprefix(".")
    return f"{name}: " if name else ""


def line_of(text: str, at: Location) -> int:
    """Return the line on which a key is written, or the nearest key above it; 1 if there is none."""
    wanted = tuple(map(str, at))
    best, depth = 1, 0
    table: tuple[str, ...] = ()
    counts: Counter[str] = Counter()
    quoted = ""
    for number, line in enumerate(text.splitlines(), 1):
        if quoted:
            quoted = "" if quoted in line else quoted
            continue
        if found := _TABLE.match(line):
            table = tuple(found[2].split("."))
            if found[1]:
                table += (str(counts[found[2]]),)
                counts[found[2]] += 1
            here = table
        elif found := _KEY.match(line):
            here = (*table, *found[2].split("."))
        else:
            continue
        shared = _shared(here, wanted)
        if shared == len(here) and shared > depth:
            best, depth = number, shared
        quoted = next((mark for mark in ("'''", '"""') if line.count(mark) == 1), "")
    return best


def _shared(here: Sequence[str], wanted: Sequence[str]) -> int:
    count = 0
    for one, other in zip(here, wanted, strict=False):
        if one != other:
            break
        count += 1
    return count

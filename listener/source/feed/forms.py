"""The forms of a profile's values, as types that pydantic checks. Pure."""

import re
from itertools import pairwise
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from unlost.listener.core.order_key import PATH
from unlost.listener.source.feed.conditions import condition_of
from unlost.listener.source.feed.paths import EACH, path_of
from unlost.listener.source.feed.secrets import is_written_out, names_secret, secret_in
from unlost.listener.source.feed.templates import identifier_of, template_of
from unlost.listener.source.feed.variables import FILE, NAME

CONSTANT = "="
LONGEST_SECONDS = 7 * 86400


def _path(text: str) -> str:
    if EACH in path_of(text):
        raise ValueError("only the path of each may hold [*]")
    return text


def _each(text: str) -> str:
    if EACH not in path_of(text):
        raise ValueError("the path of each must hold [*], as in data[*]")
    return text


def _identifier(text: str) -> str:
    if not text.startswith(CONSTANT):
        identifier_of(text)
    return text


def _template(text: str) -> str:
    template_of(text)
    return _body(text)


def _body(text: str) -> str:
    if (name := secret_in(text)) is not None:
        raise ValueError(f"the field {name} holds a secret; write ${{NAME}} in its place")
    return text


def _key(text: str) -> str:
    if not re.fullmatch(PATH, text):
        raise ValueError("must be a path in the event, as payload.account_id")
    return text


def _condition(given: Any) -> Any:
    if given != []:
        condition_of(given)
    return given


def _address(text: str) -> str:
    if not text.startswith(("ws://", "wss://", "http://", "https://", "${", "file:")):
        raise ValueError("must begin with ws://, wss://, http:// or https://")
    parts = urlsplit(NAME.sub(lambda found: found[2] or "", text))  # what is written out
    user = parts.password or (parts.password is None and parts.username)
    if user or any(names_secret(name) and is_written_out(value) for name, value in parse_qsl(parts.query)):
        raise ValueError("holds a secret; write ${NAME} in its place")
    return text


def _headers(given: dict[str, str]) -> dict[str, str]:
    for name, value in given.items():
        if names_secret(name) and not value.startswith(FILE) and is_written_out(value):
            raise ValueError(f"the header {name} holds a secret; write ${{NAME}} or file:PATH in its place")
    return given


def _subprotocols(given: list[str]) -> list[str]:
    for name, value in pairwise(given):
        if names_secret(name) and not value.startswith(FILE) and is_written_out(value):
            raise ValueError(f"what follows {name} is a secret; write ${{NAME}} in its place")
    return given


def _send_alone(given: Any) -> Any:
    return {"send": given} if isinstance(given, str) else given


def _again(given: Any) -> Any:
    """A table of conditions may hold ``url``, ``every``, ``missed`` and ``when`` beside its paths."""
    if isinstance(given, dict) and "when" not in given:
        own = {name: value for name, value in given.items() if name in ("url", "every", "missed")}
        rest = {name: value for name, value in given.items() if name not in own}
        return own | ({"when": rest} if rest else {})
    return {"when": given} if isinstance(given, str | list) else given


def _every(given: Any) -> Any:
    """Seconds, or the path of an interval."""
    if isinstance(given, str):
        return _path(given)
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise ValueError("must be a number of seconds or a path")  # noqa: TRY004  pydantic collects these
    if not 0 < given <= LONGEST_SECONDS:
        raise ValueError(f"must be more than 0 and at most {LONGEST_SECONDS:,} seconds")
    return given


def _code_or_condition(given: Any) -> Any:
    if not isinstance(given, int):
        condition_of(given)
    return given


PathText = Annotated[str, AfterValidator(_path)]
Identifier = Annotated[str, AfterValidator(_identifier)]
Message = Annotated[str, AfterValidator(_template)]
Body = Annotated[str, AfterValidator(_body)]
PathOfKey = Annotated[str, AfterValidator(_key)]
When = Annotated[Any, AfterValidator(_condition)]
Address = Annotated[str, AfterValidator(_address)]
Subprotocols = Annotated[list[str], AfterValidator(_subprotocols)]
HeaderTable = Annotated[dict[str, str], AfterValidator(_headers)]
Seconds = Annotated[float, Field(gt=0, le=LONGEST_SECONDS)]
PathOfEach = Annotated[str, AfterValidator(_each)]
SecondsOrPath = Annotated[float | str, BeforeValidator(_every)]
SendAlone = BeforeValidator(_send_alone)
AgainForms = BeforeValidator(_again)
CodeOrCondition = Annotated[Any, AfterValidator(_code_or_condition)]

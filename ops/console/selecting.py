"""Turns the part of a request that names letters into a selection. Pure; ``now`` is an argument."""

import json
from collections.abc import Iterator
from typing import Literal

import msgspec
from starlette.datastructures import QueryParams

from unlost.dlq.record.containment import alternatives
from unlost.dlq.record.letter import iso
from unlost.dlq.record.query import QUOTING, Selection, moment
from unlost.ops.kit.telemetry.redact import Redactor

SHORTEST_ID = 16
LONGEST_FILTER = 2_000


class SelectionRefused(Exception):
    """The request is wrong; the text says why."""


class Filters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The filters of a request. An empty one matches every letter. ``since`` and ``until``: ISO 8601, or an age."""

    fingerprint: str = ""
    types: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    since: str = ""
    until: str = ""
    begins: str = ""
    text: str = ""
    payload: str = ""

    def flags(self, now: float) -> list[str]:
        """The filters as flags of ``dlq``. Ages become times, so that each of several commands means the same."""
        several = [("type", one) for one in self.types] + [("state", one) for one in self.states]
        times = [(name, _moment(name, getattr(self, name), now)) for name in ("since", "until")]
        texts = [(name, getattr(self, name)) for name in ("fingerprint", "begins", "text", "payload")]
        every = [*several, *((name, "" if at is None else iso(at)) for name, at in times), *texts]
        return [f"--{name}={value}" for name, value in every if value]

    def said(self) -> Iterator[str]:
        """The filters that are set, as ``name=value``; the name alone of those that may quote a payload."""
        for name in Filters.__struct_fields__:
            if value := getattr(self, name):
                said = ",".join(value) if isinstance(value, tuple) else value
                yield name if name in QUOTING else f"{name}={said}"


class Named(Filters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Letters that a request names: by whole ids, by filters, or all of them."""

    ids: tuple[str, ...] = ()
    file: str | None = None
    everything: bool = False

    def about(self) -> str:
        """The letters in words."""
        named = [f"ids={','.join(self.ids)}"] if self.ids else []
        return f"{' '.join([*named, *self.said()]) or 'all'} in {self.file or 'the list'}"


class LettersRequest(Named, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which letters to archive or to restore.

    ``followers``: whether later events of the keys that archived letters block ``wait`` for them still, or ``go``.
    """

    why: str = ""
    followers: Literal["", "wait", "go"] = ""
    dry_run: bool = False


def filters_of(query: QueryParams) -> Filters:
    """Return the filters in an address."""
    texts = {name: query.get(name, "") for name in ("fingerprint", "since", "until", "begins", "text", "payload")}
    states = tuple(one for one in query.get("state", "").split(",") if one)
    return Filters(types=tuple(query.getlist("type")), states=states, **texts)


class Selecting:
    """Makes selections, and refuses those that would find out what is masked."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor

    def named(self, request: Named, now: float) -> Selection:
        """Return the selected letters; all of them only if the request says so explicitly."""
        if any(len(one) < SHORTEST_ID for one in request.ids):
            raise SelectionRefused('"ids" holds whole ids of letters: a part of one could mean others too')
        chosen = self.filtered(request, now, ids=request.ids)
        if chosen.everything and not request.everything:
            raise SelectionRefused('say which letters are meant, by "ids" or a filter, or "everything": true')
        return chosen

    def filtered(self, filters: Filters, now: float, *, ids: tuple[str, ...] = ()) -> Selection:
        """Return the letters that match the filters."""
        payload = _payload(filters.payload)
        self._refuse_guessing(filters, payload)
        _refuse_long(filters.fingerprint, filters.begins, filters.text, *filters.types, *filters.states)
        return Selection(
            ids=ids,
            fingerprint=filters.fingerprint,
            types=frozenset(filters.types),
            statuses=frozenset(filters.states),
            since=_moment("since", filters.since, now),
            until=_moment("until", filters.until, now),
            begins=filters.begins,
            text=filters.text,
            payload=payload,
        )

    def _refuse_guessing(self, filters: Filters, payload: tuple[str, ...]) -> None:
        """Refuse to search in what is masked: whoever may search could guess it, letter by letter."""
        if filters.text and self._redactor.masks:
            raise SelectionRefused("errors cannot be searched here: they may quote fields that are masked (REDACT)")
        fields = [{"payload": json.loads(one)} for one in payload]
        if self._redactor.value(fields) != fields:
            raise SelectionRefused("a field of the payload cannot be searched for here: it is masked (REDACT)")


def _payload(text: str) -> tuple[str, ...]:
    try:
        return alternatives(text) if text else ()
    except ValueError as error:
        raise SelectionRefused(f"payload: {error}") from None


def _moment(name: str, text: str, now: float) -> float | None:
    try:
        return moment(text, now) if text else None
    except (ValueError, OverflowError) as error:
        raise SelectionRefused(f"{name}: {error}") from None


def _refuse_long(*texts: str) -> None:
    if any(len(one) > LONGEST_FILTER for one in texts) or len(texts) > LONGEST_FILTER:
        raise SelectionRefused(f"a filter has at most {LONGEST_FILTER:,} characters")

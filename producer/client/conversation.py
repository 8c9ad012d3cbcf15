"""The conversation with a producer, without input and output: what to send, how long to wait, and what answers mean.

A conversation is a generator. It yields ``PostBody`` and is given a ``Reply`` or ``NoReply``; it yields ``PauseFor``
and is given nothing. So one conversation serves the asynchronous and the synchronous publisher.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from unlost.producer.client.outcome import (
    Published,
    PublishInDoubt,
    PublishRejected,
    PublishUnavailable,
    Status,
    refusal,
)

LINES = 2_000
BYTES = 1024 * 1024
"""A batch is sent in parts of at most this many lines or bytes. A larger event is a part of its own."""
TOO_LARGE = 413
LONGEST_PAUSE = 30.0
FIRST_PAUSE, CEILING = 0.1, 5.0
MAX_ANSWER = 1024 * 1024
MAX_ANSWER_OF_A_LINE = 2_048


class PostBody(NamedTuple):
    """Post this body. At most ``max_answer`` bytes of the answer may be read."""

    path: str
    body: bytes
    content_type: str
    max_answer: int


class PauseFor(NamedTuple):
    """Wait for ``seconds``."""

    seconds: float


class Reply(NamedTuple):
    """An answer."""

    status: int
    body: bytes
    retry_after: str | None = None


class NoReply(NamedTuple):
    """There was no answer. ``sent``: the producer may have received the request."""

    reason: str
    sent: bool


T = TypeVar("T")
Conversation = Generator[PostBody | PauseFor, Reply | NoReply | None, T]


class _Answer(msgspec.Struct):
    status: str
    event_id: str | None = None
    cursor: str | None = None
    error: str | None = None
    line: int | None = None


_answer = msgspec.json.Decoder(_Answer)
_KNOWN: dict[str, Status] = {
    "accepted": "accepted", "redelivered": "redelivered", "duplicate": "duplicate", "conflict": "conflict",
    "invalid": "invalid", "too_large": "too_large",
}  # fmt: skip


class Outgoing(NamedTuple):
    """One event as it is sent, on one line."""

    event_id: str
    line: bytes


def outgoing(event: Mapping[str, Any], new_id: Callable[[], str]) -> Outgoing:
    """Write an event as JSON. Without ``event_id`` it gets a new one, so that every retry has the same."""
    event_id = event.get("event_id")
    if event_id is None:
        event_id = new_id()
    line = msgspec.json.encode({**event, "event_id": event_id}, enc_hook=_plain)
    return Outgoing(str(event_id), line)


def _plain(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(f"a payload cannot hold an object of type {type(value).__qualname__}")
    return dump(mode="json")


class Patience:
    """How long to try. After each failed attempt it returns how long to wait, or that the time is up."""

    def __init__(self, seconds: float, clock: Callable[[], float], rng: Callable[[], float]) -> None:
        self._clock = clock
        self._rng = rng
        self._seconds = seconds
        self._until = clock() + seconds
        self._failures = 0

    def pause(self, retry_after: str | None) -> float | None:
        """Return the seconds before the next attempt, or None if it would come too late."""
        self._failures += 1
        ceiling = min(CEILING, FIRST_PAUSE * 2.0 ** min(self._failures - 1, 16))
        pause = max(_seconds(retry_after), ceiling * (0.1 + 0.9 * self._rng()))
        return pause if self._clock() + pause < self._until else None

    def progressed(self) -> None:
        """Begin anew: something was accepted."""
        self._failures = 0
        self._until = self._clock() + self._seconds


def _seconds(retry_after: str | None) -> float:
    if retry_after is None or not (retry_after.isascii() and retry_after.isdigit()):
        return 0.0
    return min(float(retry_after[:9]), LONGEST_PAUSE)


def publish_one(event: Outgoing, patience: Patience, *, redeliver: bool) -> Conversation[Published]:
    """Publish one event, and return its outcome; raise the error of one that is refused."""
    (published,) = yield from publish_all((event,), patience, redeliver=redeliver, path="/publish")
    if published.is_refused:
        raise refusal(published)
    return published


def publish_all(
    events: Sequence[Outgoing], patience: Patience, *, redeliver: bool, path: str = "/publish/batch"
) -> Conversation[list[Published]]:
    """Publish these in order, and return the outcome of each."""
    ended: list[Published] = []
    most, doubted = LINES, 0  # an earlier attempt may have published the events before this place
    where = f"{path}?redeliver=true" if redeliver else path
    while len(ended) < len(events):
        part = _part(events, len(ended), most)
        reply = yield _send(where, part)
        assert reply is not None
        before = doubted
        known = _outcomes(reply, part, doubted=before - len(ended)) if isinstance(reply, Reply) else []
        if isinstance(reply, Reply) and not known and _is_final(reply, part):
            raise _without_outcome(f"the answer is {reply.status}: {_text(reply.body)}", events, ended, before)
        if not isinstance(reply, NoReply) or reply.sent:
            doubted = max(doubted, len(ended) + len(part))
        ended += known
        # After a line that is much too large, the rest of the batch is not read. Sent alone, it gets an answer.
        cut_off = isinstance(reply, Reply) and reply.status == TOO_LARGE and len(known) < len(part)
        most = 1 if cut_off else LINES
        if known:
            patience.progressed()
        if len(known) < len(part) and not cut_off:
            pause = patience.pause(reply.retry_after if isinstance(reply, Reply) else None)
            if pause is None:
                raise _without_outcome(
                    _why(reply, len(events) - len(ended)), events, ended, doubted, PublishUnavailable
                )
            yield PauseFor(pause)
    return ended


def _without_outcome(
    why: str,
    events: Sequence[Outgoing],
    ended: Sequence[Published],
    doubted: int,
    kind: type[PublishRejected | PublishUnavailable] = PublishRejected,
) -> PublishRejected | PublishUnavailable:
    """The error of a call that ends here. A refusal says nothing of an earlier attempt whose answer was lost."""
    left = tuple(event.event_id for event in events[len(ended) :])
    return (PublishInDoubt if doubted > len(ended) else kind)(why, tuple(ended), left)


def _part(events: Sequence[Outgoing], first: int, most: int) -> Sequence[Outgoing]:
    size = 0
    for place in range(first, min(first + most, len(events))):
        size += len(events[place].line) + 1
        if size > BYTES and place > first:
            return events[first:place]
    return events[first : first + most]


def _send(path: str, part: Sequence[Outgoing]) -> PostBody:
    body = b"\n".join([event.line for event in part])
    kind = "application/x-ndjson" if "/batch" in path else "application/json"
    return PostBody(path, body, kind, MAX_ANSWER + MAX_ANSWER_OF_A_LINE * len(part))


def _outcomes(reply: Reply, part: Sequence[Outgoing], *, doubted: int) -> list[Published]:
    """Return the outcomes that an answer has, from the first event on, without a gap.

    The first ``doubted`` events were sent before, and may have been accepted then.
    """
    found: dict[int, _Answer] = {}
    for text in reply.body.splitlines():
        try:
            answer = _answer.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            break
        if answer.status in _KNOWN and (answer.line is not None or len(part) == 1):
            found[1 if answer.line is None else answer.line] = answer
    known: list[Published] = []
    for number, event in enumerate(part, 1):
        if number not in found:
            break
        known.append(_published(event, found[number], doubted=number <= doubted))
    return known


def _is_final(reply: Reply, part: Sequence[Outgoing]) -> bool:
    """Whether an answer without any outcome would be the same again: it refuses the request as a whole."""
    return not (_may_pass(reply.status) or (reply.status == TOO_LARGE and len(part) > 1))


def _published(event: Outgoing, answer: _Answer, *, doubted: bool) -> Published:
    status = _KNOWN[answer.status]
    if status == "duplicate" and doubted:
        status = "accepted"  # it is in the journal, by an earlier attempt whose answer was lost, or from before
    refused = status in ("conflict", "invalid", "too_large")
    return Published(event.event_id, status, answer.cursor, answer.error if refused else None)


def _may_pass(status: int) -> bool:
    """Whether another attempt may have another answer."""
    return status >= 500 or status in (408, 425, 429)


def _why(reply: Reply | NoReply, left: int) -> str:
    reason = reply.reason if isinstance(reply, NoReply) else f"the last answer was {reply.status}: {_text(reply.body)}"
    events = "1 event has" if left == 1 else f"{left:,} events have"
    return f"the time is up, and {events} no outcome: {reason}"


def _text(body: bytes) -> str:
    try:
        answer = _answer.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return repr(body[:200].decode(errors="replace"))
    return answer.error or answer.status

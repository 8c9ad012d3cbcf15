"""The trail: who changed what, from where, why, and with what result. Each entry has the hash of the one before.

So an entry that is changed, taken out or put in breaks the chain from there on. A cut at the end leaves a
whole chain: note the last hash elsewhere, and compare. The chain stands in PostgreSQL (``store/postgres/trail.py``); a
file has a chain of its own, for commands that reach no database.
"""

import errno
import fcntl
import hashlib
import os
import pwd
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec

from unlost.ops.kit.command.say import say
from unlost.ops.kit.telemetry.files import private_descriptor

FIRST = ""
"""The hash before the first entry."""
MAX_TEXT = 2_000
MAX_LINE = 128 * 1024
"""Of a text, a character takes 6 bytes at most."""


def trail_beside(path: Path) -> Path:
    """The trail of what is done to a file."""
    return path.with_name(f"{path.name}.trail")


def whoami() -> str:
    """The user who runs this command, as the system knows it: variables such as ``LOGNAME`` can be set to any name."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = f"uid {os.getuid()}"
    return f"{user}@{os.uname().nodename}"


class Act(msgspec.Struct, frozen=True):
    """One recorded action. ``about``: the letters, token or group; ``origin``: the command or server."""

    who: str
    origin: str
    what: str
    about: str
    why: str
    result: str


class TrailEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An act in its chain. ``at``: microseconds since 1970."""

    number: int
    at: int
    who: str
    origin: str
    what: str
    about: str
    why: str
    result: str
    previous: str
    hash: str


def link(act: Act, *, after: TrailEntry | None, at: float) -> TrailEntry:
    """Put an act at the end of a chain."""
    texts = {name: _short(value) for name, value in msgspec.structs.asdict(act).items()}
    number, previous = (1, FIRST) if after is None else (after.number + 1, after.hash)
    made = TrailEntry(number=number, at=round(at * 1_000_000), previous=previous, hash="", **texts)
    return msgspec.structs.replace(made, hash=hash_of(made))


def hash_of(one: TrailEntry) -> str:
    """The hash of all fields but itself."""
    fields = [value for name, value in msgspec.structs.asdict(one).items() if name != "hash"]
    return hashlib.sha256(msgspec.json.encode(fields)).hexdigest()


class Chain:
    """Checks the entries of a chain, one after another. ``count`` and ``last``: how many, and the hash of the last."""

    def __init__(self) -> None:
        self.count = 0
        self.last = FIRST

    def broken_by(self, one: TrailEntry) -> str:
        """Where the next entry breaks it, in a sentence; an empty text if it does not."""
        if one.number != self.count + 1:
            return f"entry {self.count + 1} is missing; {one.number} follows"
        if one.previous != self.last:
            return f"entry {one.number} does not follow the one before it"
        if one.hash != hash_of(one):
            return f"entry {one.number} was changed"
        self.count, self.last = one.number, one.hash
        return ""


def whole(path: Path) -> Iterator[TrailEntry]:
    """Return the entries of a file whose chain is whole so far. Raises ``BrokenTrail`` where it breaks."""
    chain = Chain()
    for one in read(path):
        if why := chain.broken_by(one):
            raise BrokenTrail(f"{path}: {why}")
        yield one


def retold(one: TrailEntry, path: Path) -> Act:
    """An entry of a file, to be put into another chain. Its hash, by which it is known again, ends the origin."""
    origin = f"{one.origin[: MAX_TEXT // 2]}, from {path.name[:100]}, entry {one.hash}"
    return Act(one.who, origin, one.what, one.about, one.why, one.result)


def _short(text: str) -> str:
    """Within the limit, and without what PostgreSQL's text cannot hold."""
    return text[:MAX_TEXT].replace("\0", "").encode("utf-8", "replace").decode()


_link = msgspec.json.Decoder(TrailEntry)


class BrokenTrail(Exception):
    """A file of the trail has a line that is no entry."""


def append_to(path: Path, act: Act) -> TrailEntry:
    """Append to a file; return once it is on disk. Several processes may do so."""
    descriptor = private_descriptor(path, os.O_RDWR | os.O_APPEND)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        tail = os.pread(descriptor, MAX_LINE, max(0, size - MAX_LINE))
        whole = tail[: tail.rfind(b"\n") + 1]
        size -= len(tail) - len(whole)
        os.ftruncate(descriptor, size)  # without half a line that a crash left
        made = link(act, after=_last(path, whole), at=time.time())
        line = msgspec.json.encode(made) + b"\n"
        if os.write(descriptor, line) != len(line):
            os.ftruncate(descriptor, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(descriptor)
        return made
    finally:
        os.close(descriptor)


def unwritten(file: Path, act: Act) -> str:
    """Append to the trail beside a file. Return why that failed, or an empty text."""
    try:
        append_to(trail_beside(file), act)
    except (OSError, BrokenTrail) as error:
        return str(error)
    return ""


def note_beside(file: Path, act: Act) -> None:
    """Append to the trail beside a file. The change is made already, so a failure is a warning."""
    if why := unwritten(file, act):
        warn_unwritten(why)


def warn_unwritten(why: object) -> None:
    """Say that a change is not in the trail."""
    say(f"warning: the trail cannot be written: {why}; the change is made all the same", err=True)


def _last(path: Path, tail: bytes) -> TrailEntry | None:
    if not tail:
        return None
    try:
        return _link.decode(tail.splitlines()[-1])
    except (msgspec.DecodeError, UnicodeError):
        raise BrokenTrail(f"{path} does not end with an entry of a trail; put it aside, and a new one begins") from None


def read(path: Path) -> Iterator[TrailEntry]:
    """The entries of a file; a last line that was torn is left out. Raises ``BrokenTrail``."""
    with path.open("rb") as file:
        for number, line in enumerate(iter(partial(file.readline, MAX_LINE), b""), 1):
            try:
                yield _link.decode(line)
            except (msgspec.DecodeError, UnicodeError):
                if line.endswith(b"\n") or len(line) == MAX_LINE:
                    raise BrokenTrail(f"{path}: line {number} is no entry of a trail") from None

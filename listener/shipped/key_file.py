"""The key file of the shipped codec: keys by id, and what was erased.

Each key is the root of a tree of keys (Goldreich, Goldwasser, Micali 1984): HMAC-SHA256 makes the keys below a key, and
each leaf is the key of one subject. So the key of any subject can be made at any time without asking anybody, and
nothing is stored for a new subject. To erase a subject, the keys above its leaf are removed and the keys beside that
path are kept. The keys that are left still make every other leaf, but not this one. The file keeps the place of this
leaf. Only somebody who has the file and knows the subject can recognise it.

The file is replaced in one step. It is private: it must not be in the same backup as what it protects.
"""

import hmac
import os
import secrets
import stat
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from unlost.listener.core.order_key import bounded
from unlost.ops.kit.access.watched_file import Unusable
from unlost.ops.kit.telemetry.files import PRIVATE_FILE

DEPTH = 20
"""Steps from a root to a leaf; each has 16 branches, so 80 bits name a subject."""
HEX = "0123456789abcdef"
KEY_BYTES = 32
MOST_BYTES = 1024**3


class StoredKey(msgspec.Struct, frozen=True):
    """One key. ``general`` is for events without a subject; ``nodes``: what is left of the tree, by place."""

    made: str
    general: bytes
    nodes: dict[str, bytes]


class KeyFile(msgspec.Struct, frozen=True):
    """The whole file. ``current``: the id of the key that encodes; ``names``: makes the place of a subject."""

    unlost_keys: int
    current: str
    names: bytes
    keys: dict[str, StoredKey]
    erased: list[str] = []

    def place_of(self, subject: str) -> str:
        """Return the place of a subject's leaf."""
        return hmac.digest(self.names, bounded(subject).encode("utf-8", "surrogatepass"), "sha256").hex()[:DEPTH]

    def leaf(self, kid: str, place: str) -> bytes | None:
        """Return the key of a subject; None if it was erased."""
        nodes = self.keys[kid].nodes
        for depth in range(DEPTH + 1):
            if (key := nodes.get(place[:depth])) is not None:
                for step in place[depth:]:
                    key = below(key, step)
                return key
        return None


def below(key: bytes, step: str) -> bytes:
    """Return the key one step below another."""
    return hmac.digest(key, b"unlost subject " + step.encode(), "sha256")


def without(nodes: Mapping[str, bytes], place: str) -> dict[str, bytes]:
    """Return the keys of a tree from which this leaf can no longer be made, and all others can."""
    left = dict(nodes)
    depth = next((depth for depth in range(DEPTH + 1) if place[:depth] in left), None)
    if depth is None:
        return left
    key = left.pop(place[:depth])
    for at in range(depth, DEPTH):
        for step in HEX:
            if step != place[at]:
                left[place[:at] + step] = below(key, step)
        key = below(key, place[at])
    return left


def fresh(kid: str = "") -> KeyFile:
    """Return a new file with one key."""
    kid = kid or new_kid(())
    return KeyFile(1, kid, secrets.token_bytes(KEY_BYTES), {kid: _new_key(())})


def rotated(file: KeyFile) -> KeyFile:
    """Return the file with a new current key. Erased subjects stay erased, also under the new key."""
    kid = new_kid(file.keys)
    return msgspec.structs.replace(file, current=kid, keys={**file.keys, kid: _new_key(file.erased)})


def erased_from(file: KeyFile, subject: str) -> KeyFile:
    """Return the file without this subject's keys."""
    place = file.place_of(subject)
    keys = {kid: msgspec.structs.replace(one, nodes=without(one.nodes, place)) for kid, one in file.keys.items()}
    return msgspec.structs.replace(file, keys=keys, erased=sorted({*file.erased, place}))


def without_key(file: KeyFile, kid: str) -> KeyFile:
    """Return the file without a key."""
    return msgspec.structs.replace(file, keys={name: one for name, one in file.keys.items() if name != kid})


def new_kid(known: Iterable[str]) -> str:
    """Return an id for a new key: the date, and a number if needed."""
    day, taken = datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%d"), set(known)
    return next(kid for number in range(1, len(taken) + 2) if (kid := f"{day}.{number}") not in taken)


def read(path: Path) -> KeyFile:
    """Read a key file. Raises ``Unusable`` with a sentence that names it."""
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & (stat.S_IWOTH | stat.S_IROTH):
                raise Unusable(f"CODEC_KEYS {path}: others may use it; remove their rights: chmod o-rwx")
            content = file.read(MOST_BYTES)
        found = msgspec.json.decode(content, type=KeyFile)
    except OSError as error:
        raise Unusable(f"CODEC_KEYS {path} cannot be read: {error.strerror}; `unlost keys create` makes one") from None
    except (msgspec.DecodeError, RecursionError):
        raise Unusable(f"CODEC_KEYS {path} is no key file; `unlost keys create` makes one") from None
    whole = found.current in found.keys and found.unlost_keys == 1 and all(map(_is_whole, found.keys.values()))
    if not whole or len(found.names) != KEY_BYTES:
        raise Unusable(f"CODEC_KEYS {path} is damaged, or of a newer version")
    return found


def write(path: Path, file: KeyFile) -> None:
    """Replace the file in one step, durably. Its owner and group keep their rights; a new file is its owner's alone."""
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        mode = stat.S_IMODE(target.stat().st_mode) & 0o660
    except FileNotFoundError:
        mode = PRIVATE_FILE
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        with open(descriptor, "wb") as out:  # noqa: PTH123  a descriptor
            out.write(msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n")
            out.flush()
            os.fchmod(out.fileno(), mode)
            os.fsync(out.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def fingerprint(file: KeyFile) -> str:
    """Return what names the content of a file without revealing it."""
    return hmac.digest(file.names, b"unlost key file" + msgspec.json.encode(file), "sha256").hex()[:16]


def _new_key(erased: Iterable[str]) -> StoredKey:
    nodes = {"": secrets.token_bytes(KEY_BYTES)}
    for place in erased:
        nodes = without(nodes, place)
    made = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds")
    return StoredKey(made, secrets.token_bytes(KEY_BYTES), nodes)


def _is_whole(key: StoredKey) -> bool:
    return len(key.general) == KEY_BYTES and all(len(one) == KEY_BYTES for one in key.nodes.values())

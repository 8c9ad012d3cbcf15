"""``CODEC=unlost.encryption:AesGcm``: AES-256-GCM with a key for each subject.

The encrypted content names the key by its id and the place of the subject, and is bound to both and to the id of the
event. The key file is read again within a second after it has changed, so a key that was added or erased is known
everywhere soon. While it cannot be read, the keys that were read last are used.
"""

import hmac
import os
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Literal

import msgspec

from unlost.listener.core.codec import KeyMissing, SubjectErased, Unreadable, erased
from unlost.listener.core.errors import Misconfigured
from unlost.listener.shipped.key_file import DEPTH, HEX, KeyFile, fresh, read
from unlost.ops.kit.access.watched_file import Unusable, WatchedFile

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
except ImportError:  # pragma: no cover  the extra is not installed
    raise Misconfigured("it needs the extra unlost[codec]: pip install 'unlost[codec]'") from None

NONCE_BYTES = 12
LOOK_SECONDS = 0.5
KEPT_KEYS = 10_000
"""Subjects whose keys are kept in memory: making one takes 50 µs."""


class EncryptedContent(msgspec.Struct, frozen=True, omit_defaults=True):
    """Stands in place of the plain content."""

    unlost: Literal["enc"]
    kid: str
    nonce: bytes
    data: bytes
    sub: str = ""


_encrypted = msgspec.json.Decoder(EncryptedContent)


class AesGcm:
    """A ``Codec``."""

    def __init__(self, keys: Path | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        """``keys``: the key file. Raises ``Misconfigured``."""
        if keys is None:
            raise Misconfigured("set --codec-keys (CODEC_KEYS), the key file that `unlost keys create` makes")
        self._file = WatchedFile[KeyFile](keys, read, fresh("none"))
        self._clock = clock
        self._lock = threading.Lock()
        self._look_at = 0.0
        try:
            self._file.load()
        except Unusable as error:
            raise Misconfigured(str(error)) from None
        self._took_up(self._file.content)

    @property
    def keys(self) -> KeyFile:
        """The keys as they are now."""
        now = self._clock()
        if now >= self._look_at:
            with self._lock:
                if self._file.refresh():
                    self._took_up(self._file.content)
                self._look_at = now + LOOK_SECONDS
        return self._keys

    def _took_up(self, keys: KeyFile) -> None:
        self._keys = keys
        self._erased = frozenset(keys.erased)
        self._cipher = lru_cache(maxsize=KEPT_KEYS)(lambda kid, place: _cipher_of(keys, kid, place))
        self._look_at = self._clock() + LOOK_SECONDS

    def is_erased(self, subject: str) -> bool:
        """See ``Codec``."""
        keys = self.keys
        return bool(self._erased) and keys.place_of(subject) in self._erased

    def encode(self, plain: bytes, *, event_id: str, subject: str | None) -> bytes:
        """See ``Codec``."""
        keys = self.keys
        kid, place = keys.current, "" if subject is None else keys.place_of(subject)
        nonce = os.urandom(NONCE_BYTES)
        data = self._key(kid, place, event_id).encrypt(nonce, plain, _bound(kid, place, event_id))
        return msgspec.json.encode(EncryptedContent("enc", kid, nonce, data, place))

    def decode(self, coded: bytes, *, event_id: str) -> bytes:
        """See ``Codec``."""
        try:
            one = _encrypted.decode(coded)
        except (msgspec.DecodeError, RecursionError):
            raise Unreadable("its encrypted content is damaged, or of another codec") from None
        if one.sub and not (len(one.sub) == DEPTH and set(one.sub) <= set(HEX)):
            raise Unreadable("its encrypted content is damaged: it names no place of a subject")
        if one.kid not in self.keys.keys:
            raise KeyMissing(
                f"it is encrypted with the key {one.kid[:64]!r}, which is not in the key file (CODEC_KEYS); "
                "put that key back, and it can be read"
            )
        try:
            return self._key(one.kid, one.sub, event_id).decrypt(
                one.nonce, one.data, _bound(one.kid, one.sub, event_id)
            )
        except (InvalidTag, ValueError):
            raise Unreadable("its encrypted content was changed, or belongs to another event") from None

    def _key(self, kid: str, place: str, event_id: str) -> AESGCM:
        if not place:  # one key for each event, so that no number of events wears out a key
            general = self._keys.keys[kid].general
            return AESGCM(hmac.digest(general, event_id.encode("utf-8", "surrogatepass"), "sha256"))
        return self._cipher(kid, place)


def _cipher_of(keys: KeyFile, kid: str, place: str) -> AESGCM:
    key = keys.leaf(kid, place)
    if key is None:
        raise SubjectErased(erased())
    return AESGCM(key)


def _bound(kid: str, place: str, event_id: str) -> bytes:
    return "\0".join(("unlost", kid, place, event_id)).encode("utf-8", "surrogatepass")

"""A codec with a key file of its own."""

from pathlib import Path

from unlost.listener.core.codec import EventCodec
from unlost.listener.shipped import key_file
from unlost.listener.shipped.encryption import AesGcm


class Clock:
    """Each look at it is a second later, so that a changed key file is noticed at once."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


class Keys:
    """A key file, and codecs that use it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        key_file.write(path, key_file.fresh("k1"))
        self.codec = self.codec_of()

    def codec_of(self, subject: str = "payload.customer") -> EventCodec:
        return EventCodec(AesGcm(self.path, clock=Clock()), subject)

    def erase(self, subject: str) -> None:
        key_file.write(self.path, key_file.erased_from(key_file.read(self.path), subject))

    def rotate(self) -> None:
        key_file.write(self.path, key_file.rotated(key_file.read(self.path)))

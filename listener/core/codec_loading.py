"""Makes the codec that ``CODEC`` names."""

import importlib
import sys
from pathlib import Path
from typing import Any, Protocol, cast

from unlost.listener.core.codec import Codec, EventCodec
from unlost.listener.core.errors import Misconfigured


class CodecOptions(Protocol):
    """The settings of a codec."""

    @property
    def codec(self) -> str:
        """``package.module:Codec``; empty: nothing is encoded."""

    @property
    def codec_keys(self) -> Path | None:
        """The key file."""

    @property
    def codec_subject(self) -> str:
        """The path of the subject in an event; empty: none."""


def codec_of(settings: CodecOptions) -> EventCodec | None:
    """Return the codec of these settings; None if none is set. Raises ``Misconfigured``."""
    if not settings.codec:
        return None
    return EventCodec(plain_codec_of(settings), settings.codec_subject)


def plain_codec_of(settings: CodecOptions) -> Codec:
    """Return what ``CODEC`` names, made with its key file. Raises ``Misconfigured``."""
    name = settings.codec
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        made: Any = getattr(importlib.import_module(module_name), attribute)
        codec = made(settings.codec_keys)
    except Misconfigured as error:
        raise Misconfigured(*(f"CODEC={name}: {one}" for one in error.mistakes)) from None
    except (Exception, SystemExit) as error:  # the user's module may raise anything
        raise Misconfigured(f"CODEC={name}: {type(error).__name__}: {error}") from error
    if not all(callable(getattr(codec, one, None)) for one in ("encode", "decode", "is_erased")):
        raise Misconfigured(f"CODEC={name}: a codec has the methods encode, decode and is_erased")
    return cast("Codec", codec)

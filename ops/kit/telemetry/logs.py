"""Logs: one JSON object per line on stderr, or readable lines if stderr is a terminal.

Every line has an ISO time in UTC, the level and the instance. It has no password of any URL, and nothing that controls
a terminal (JSON escapes such characters anyway). A line that cannot be written (full disk, closed pipe) is dropped: no
work fails because of its log. Lines that libraries log through the standard library pass the same processors. If a
logger has a name, its lines have it too.
"""

import contextlib
import logging
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, TextIO, cast

import structlog
from structlog.typing import Processor

from unlost.ops.kit.telemetry.mask import masked
from unlost.ops.kit.telemetry.printable import printable, printable_lines

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_CHATTY = ("websockets", "httpx", "httpcore", "asyncio")
_ABOUT_PEERS = ("uvicorn", "uvicorn.error", "uvicorn.access")
"""They warn of each bad request, but name neither its sender nor its fault. Any peer could fill a disk with that."""


def configure_logs(level: str = "info", instance: str | None = None, *, stream: TextIO | None = None) -> None:
    """Set up logging for this process; its command calls this once."""
    stream = sys.stderr if stream is None else stream
    number = LEVELS.get(level.lower(), logging.INFO)
    terminal = stream.isatty()
    shared = _shared(instance)
    # Format tracebacks before masking: the message of an exception may quote a URL with a password.
    endings: list[Processor] = [structlog.processors.format_exc_info, mask_passwords]
    last: Processor = structlog.processors.JSONRenderer(default=str)
    if terminal:
        endings.append(make_printable)
        last = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[*shared, *endings, last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=_Named(cast("TextIO", _Forgiving(stream))),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *endings, last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    for name in _ABOUT_PEERS:
        logging.getLogger(name).setLevel(logging.ERROR)


class _Named:
    """A factory of loggers that remember their name."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, *names: Any) -> structlog.WriteLogger:
        """Make a logger; ``get_logger(__name__)`` gives it that name."""
        logger = structlog.WriteLogger(self._stream)
        logger.name = names[0] if names else None  # type: ignore[attr-defined]
        return logger


def name_logger(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ARG001
    """Add the logger's name. While a handler runs, an unnamed logger has the handler's name."""
    record = event.get("_record")
    name = getattr(logger if record is None else record, "name", None)
    if name and name != "root":
        event["logger"] = name
    return event


class _Forgiving:
    """A stream whose writes never fail."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write the text, or drop it."""
        with contextlib.suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        """Flush the buffer if possible."""
        with contextlib.suppress(OSError):
            self._stream.flush()


def mask_passwords(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ARG001
    """Mask the password of every URL, at any depth of the event."""
    for key, value in event.items():
        event[key] = _changed(value, masked)
    return event


def make_printable(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ARG001
    """Escape text that would control the terminal. Only a traceback may have several lines."""
    for key, value in event.items():
        event[key] = _changed(value, printable_lines if key in ("exception", "traceback") else printable)
    return event


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    match value:
        case str():
            return change(value)
        case Mapping():
            return {key: _changed(one, change) for key, one in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_changed(one, change) for one in value]
        case BaseException():
            return change(f"{type(value).__name__}: {value}")
    return value


def _shared(instance: str | None) -> list[Processor]:
    def name_instance(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ARG001
        if instance is not None:
            event.setdefault("instance", instance)
        return event

    return [
        structlog.contextvars.merge_contextvars,
        name_logger,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        name_instance,
    ]

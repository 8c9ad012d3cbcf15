"""Shared by the console's routes: bodies and answers in JSON, expected errors, and the identity that asks."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from unlost.dlq.record.file import FileError
from unlost.dlq.store.port import Unreachable
from unlost.listener.core.errors import Misconfigured, NotPermitted, Permanent, Transient
from unlost.ops.console.drills import TooManyDrills
from unlost.ops.console.query import Away
from unlost.ops.console.replays import Busy
from unlost.ops.console.selecting import SelectionRefused
from unlost.ops.console.shelf import Unknown
from unlost.ops.kit.access.identity import ANYBODY
from unlost.ops.kit.access.limits import NONE, Limits
from unlost.ops.kit.access.middleware import PASSED
from unlost.ops.kit.telemetry.mask import masked

CONSOLE = "console"
BUSY_SECONDS = 10
"""After so long, an identity that runs too many replays may try again."""
GRANT = "After `unlost migrate`, the owner of the tables runs `unlost migrate --grants-console ROLE` once more."
Body = TypeVar("Body")
Work = Callable[[Request], Awaitable[Response]]


def by(request: Request) -> str:
    """The identity that asks for a change, for the record."""
    identity = request.scope[PASSED].identity
    return CONSOLE if identity is None or identity is ANYBODY else f"{identity.name} ({CONSOLE})"


def limits_of(request: Request) -> Limits:
    """The limits of the identity that asks."""
    identity = request.scope[PASSED].identity
    return NONE if identity is None else identity.limits


def reading(path: str, work: Work) -> Route:
    """A route that changes nothing."""
    return Route(path, answering(work), methods=["GET"])


def changing(path: str, work: Work) -> Route:
    """A route that changes something."""
    return Route(path, answering(work), methods=["POST"])


def answering(work: Work) -> Work:
    """Turn expected errors into responses."""

    async def answer(request: Request) -> Response:
        try:
            return await work(request)
        except SelectionRefused as error:
            return error_answer(400, masked(str(error)))
        except Unknown as error:
            return error_answer(404, masked(str(error)))
        except Busy as error:
            refused = error_answer(429, masked(str(error)))
            refused.headers["retry-after"] = str(BUSY_SECONDS)
            return refused
        except TooManyDrills as error:
            return error_answer(409, masked(str(error)))
        except NotPermitted as error:
            return error_answer(503, masked(f"{error}. {GRANT}"))
        except (Transient, Permanent, Misconfigured) as error:
            return error_answer(503, masked(f"PostgreSQL does not answer: {error}"))
        except (Away, Unreachable, FileError, OSError) as error:
            lacking = f". {GRANT}" if isinstance(error.__cause__, NotPermitted) else ""
            return error_answer(503, masked(f"{error}{lacking}"))

    return answer


async def body_of(request: Request, kind: type[Body]) -> Body:
    """Decode the body. Raises ``SelectionRefused``."""
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except msgspec.DecodeError as error:
        raise SelectionRefused(f"the body is not what is expected: {error}") from None


def json_answer(value: object, status: int = 200) -> Response:
    """A response in JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def error_answer(status: int, why: str) -> Response:
    """A response that says why something was refused or failed."""
    return json_answer({"error": why}, status)

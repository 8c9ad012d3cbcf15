"""The routes of the sign-in. Without a provider, nothing of it is imported."""

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from unlost.ops.console.signin.settings import CALLBACK, SIGN_IN

if TYPE_CHECKING:
    from unlost.ops.console.signin.flow import SignIn


def sign_in_routes(sign_in: "SignIn | None") -> list[BaseRoute]:
    """The routes; without a provider, the one alone that says so."""

    async def state(request: Request) -> Response:
        return JSONResponse({"oidc": sign_in is not None, "user": sign_in.user(request) if sign_in else None})

    asked = Route("/api/signin", state, methods=["GET"])
    if sign_in is None:
        return [asked]
    return [
        asked,
        Route(SIGN_IN, sign_in.begin, methods=["GET"]),
        Route(CALLBACK, sign_in.end, methods=["GET"]),
        Route("/api/signout", sign_in.out, methods=["POST"]),
    ]

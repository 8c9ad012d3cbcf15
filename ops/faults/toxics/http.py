"""Toxiproxy's HTTP interface: the same paths, fields and status codes."""

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from unlost.ops.faults.toxics.proxy import LOOPBACK, Proxy, address
from unlost.ops.faults.toxics.toxic import Toxic, ToxicError, changed_toxic, decoded, new_toxic
from unlost.ops.kit.telemetry.http import PortTaken

VERSION = "2.9.0-stand-in"
"""The version of Toxiproxy whose documented interface this is."""
ANY_PORT = f"{LOOPBACK}:0"


class _ProxyRequest(msgspec.Struct, frozen=True):
    name: str = ""
    upstream: str = ""
    listen: str = ANY_PORT
    enabled: bool = True


class _Change(msgspec.Struct, frozen=True):
    upstream: str | None = None
    listen: str | None = None
    enabled: bool | None = None


class Proxies:
    """All proxies of a server, and the HTTP endpoints that create and change them."""

    def __init__(self) -> None:
        self._proxies: dict[str, Proxy] = {}
        self.application = Starlette(
            routes=[
                Route("/version", self._version),
                Route("/reset", self._reset, methods=["POST"]),
                Route("/populate", self._populate, methods=["POST"]),
                Route("/proxies", self._index),
                Route("/proxies", self._create, methods=["POST"]),
                Route("/proxies/{proxy}", self._show),
                Route("/proxies/{proxy}", self._update, methods=["POST", "PATCH"]),
                Route("/proxies/{proxy}", self._delete, methods=["DELETE"]),
                Route("/proxies/{proxy}/toxics", self._toxics),
                Route("/proxies/{proxy}/toxics", self._add_toxic, methods=["POST"]),
                Route("/proxies/{proxy}/toxics/{toxic}", self._toxic),
                Route("/proxies/{proxy}/toxics/{toxic}", self._change_toxic, methods=["POST", "PATCH"]),
                Route("/proxies/{proxy}/toxics/{toxic}", self._remove_toxic, methods=["DELETE"]),
            ],
            exception_handlers={ToxicError: _refused, PortTaken: _refused, OSError: _refused},
        )

    async def close(self) -> None:
        """Close all proxies."""
        for proxy in self._proxies.values():
            await proxy.close()
        self._proxies.clear()

    # -- the server -----------------------------------------------------------------------------

    async def _version(self, request: Request) -> Response:  # noqa: ARG002
        return JSONResponse({"version": VERSION})

    async def _reset(self, request: Request) -> Response:  # noqa: ARG002
        for proxy in self._proxies.values():
            await proxy.enable()
            proxy.heal()
        return Response(status_code=204)

    async def _populate(self, request: Request) -> Response:
        wanted: Sequence[_ProxyRequest] = decoded(await request.body(), list[_ProxyRequest])
        for one in wanted:
            _check(one)
        for one in wanted:
            there = self._proxies.get(one.name)
            if there is not None and (there.listen, there.upstream) == (one.listen, one.upstream):
                continue
            if there is not None:
                await self._proxies.pop(one.name).close()
            await self._open(one)
        return JSONResponse({"proxies": [_shown(self._proxies[one.name]) for one in wanted]}, 201)

    # -- proxies --------------------------------------------------------------------------------

    async def _index(self, request: Request) -> Response:  # noqa: ARG002
        return JSONResponse({name: _shown(proxy) for name, proxy in self._proxies.items()})

    async def _create(self, request: Request) -> Response:
        wanted: _ProxyRequest = decoded(await request.body(), _ProxyRequest)
        _check(wanted)
        if wanted.name in self._proxies:
            raise ToxicError(409, "proxy already exists")
        return JSONResponse(_shown(await self._open(wanted)), 201)

    async def _open(self, wanted: _ProxyRequest) -> Proxy:
        proxy = Proxy(wanted.name, wanted.listen or ANY_PORT, wanted.upstream)
        if wanted.enabled:
            await proxy.enable()
        self._proxies[wanted.name] = proxy
        return proxy

    async def _show(self, request: Request) -> Response:
        return JSONResponse(_shown(self._proxy(request)))

    async def _update(self, request: Request) -> Response:
        proxy = self._proxy(request)
        change: _Change = decoded(await request.body(), _Change)
        listen, upstream = change.listen or proxy.listen, change.upstream or proxy.upstream
        wanted = proxy.enabled if change.enabled is None else change.enabled
        if (listen, upstream) != (proxy.listen, proxy.upstream):
            address(listen), address(upstream)
            await proxy.move(listen, upstream)
        await (proxy.enable() if wanted else proxy.disable())
        return JSONResponse(_shown(proxy))

    async def _delete(self, request: Request) -> Response:
        await self._proxies.pop(self._proxy(request).name).close()
        return Response(status_code=204)

    def _proxy(self, request: Request) -> Proxy:
        try:
            return self._proxies[request.path_params["proxy"]]
        except KeyError:
            raise ToxicError(404, "proxy not found") from None

    # -- toxics ---------------------------------------------------------------------------------

    async def _toxics(self, request: Request) -> Response:
        return JSONResponse([_described(toxic) for toxic in self._proxy(request).toxics.values()])

    async def _add_toxic(self, request: Request) -> Response:
        proxy = self._proxy(request)
        toxic = new_toxic(await request.body())
        proxy.add(toxic)
        return JSONResponse(_described(toxic))

    async def _toxic(self, request: Request) -> Response:
        return JSONResponse(_described(self._proxy(request).toxic(request.path_params["toxic"])))

    async def _change_toxic(self, request: Request) -> Response:
        body = await request.body()
        proxy = self._proxy(request)
        toxic = changed_toxic(proxy.toxic(request.path_params["toxic"]), body)
        proxy.replace(toxic)
        return JSONResponse(_described(toxic))

    async def _remove_toxic(self, request: Request) -> Response:
        self._proxy(request).remove(request.path_params["toxic"])
        return Response(status_code=204)


def _check(wanted: _ProxyRequest) -> None:
    for field in ("name", "upstream"):
        if not getattr(wanted, field):
            raise ToxicError(400, f"missing required field: {field}")
    address(wanted.upstream)
    address(wanted.listen or ANY_PORT)


def _shown(proxy: Proxy) -> dict[str, object]:
    return {
        "name": proxy.name,
        "listen": proxy.listen,
        "upstream": proxy.upstream,
        "enabled": proxy.enabled,
        "toxics": [_described(toxic) for toxic in proxy.toxics.values()],
    }


def _described(toxic: Toxic) -> Any:
    return msgspec.to_builtins(toxic)


async def _refused(request: Request, error: Exception) -> Response:  # noqa: ARG001
    status = error.status if isinstance(error, ToxicError) else 500
    return JSONResponse({"error": str(error), "status": status}, status)

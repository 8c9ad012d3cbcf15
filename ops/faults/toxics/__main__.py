"""``python -m unlost.ops.faults.toxics``: the stand-in as a program. It prints ``{"port": N}`` once it is ready."""

import asyncio
import json
import signal

import click

from unlost.ops.faults.toxics.proxy import LOOPBACK
from unlost.ops.faults.toxics.server import ToxicServer
from unlost.ops.kit.command import Settings, UsageProblem, command
from unlost.ops.kit.telemetry.http import PortTaken


class ToxicsSettings(Settings):
    """No settings: nothing comes from the environment."""


@command(
    ToxicsSettings,
    name="toxics",
    examples=["python -m unlost.ops.faults.toxics", "python -m unlost.ops.faults.toxics --port 0"],
    params=[
        click.Option(["--host"], default=LOOPBACK, show_default=True, help="Address of the HTTP endpoint."),
        click.Option(["--port"], type=click.IntRange(0, 65535), default=8474, show_default=True,
                     help="Port of the HTTP endpoint; 0 takes a free one."),
    ],
)  # fmt: skip
def toxics(settings: ToxicsSettings, host: str, port: int) -> None:  # noqa: ARG001
    """Run fault proxies with Toxiproxy's HTTP interface, until SIGTERM or Ctrl-C."""
    try:
        asyncio.run(_serve(host, port))
    except PortTaken as taken:
        raise UsageProblem(str(taken)) from None


async def _serve(host: str, port: int) -> None:
    server = ToxicServer(host, port)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    click.echo(json.dumps({"port": await server.start()}))
    await stop.wait()
    await server.stop()


if __name__ == "__main__":
    toxics()

"""SeaweedFS from its wheel: objects on a disk, by the protocol of S3. A broker that keeps all in it survives a kill."""

import sys
import urllib.request
from pathlib import Path

from unlost.ops.kit.telemetry.files import private_directory
from unlost.ops.system.child import Child
from unlost.ops.system.ports import LOOPBACK, free_port
from unlost.ops.system.server import Server

BUCKET = "broker"
PARTS = ("master", "volume", "filer", "s3")
UNUSED = ("s3.port.iceberg", "s3.port.lance")


class ObjectStore(Server):
    """One server with one bucket."""

    name = "seaweedfs"
    stop_seconds = 10

    def __init__(self, directory: Path, port: int = 0, log: Path | None = None) -> None:
        super().__init__(directory, port, log)

    @property
    def environment(self) -> dict[str, str]:
        """How a program reaches it that uses the variables of AWS."""
        return {
            "AWS_ENDPOINT": f"http://{LOOPBACK}:{self._port}", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "anybody", "AWS_SECRET_ACCESS_KEY": "anything", "AWS_CONDITIONAL_PUT": "etag",
        }  # fmt: skip

    def start(self) -> None:
        private_directory(self._directory)
        self._port = self._port or free_port()
        ports = {f"{part}.port": free_port() for part in PARTS} | {f"{part}.port.grpc": free_port() for part in PARTS}
        ports |= dict.fromkeys(UNUSED, 0) | {"s3.port": self._port}
        program = Path(sys.executable).parent / "weed"
        argv = [
            str(program), "server", "-s3", "-s3.iam=false", "-ip", LOOPBACK, "-ip.bind", LOOPBACK,
            f"-dir={self._directory}", "-master.volumeSizeLimitMB=64", "-volume.max=8",
            *(f"-{name}={port}" for name, port in ports.items()),
        ]  # fmt: skip
        self._child = Child(self.name, argv, log=self._log)
        self._child.start()
        self._child.wait_until(self._has_a_bucket, 60)

    def _has_a_bucket(self) -> bool:
        request = urllib.request.Request(f"http://{LOOPBACK}:{self._port}/{BUCKET}", method="PUT")
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError as error:
            return getattr(error, "code", 0) == 409  # it is there

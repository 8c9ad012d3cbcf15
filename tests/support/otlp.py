"""A receiver of OTLP by HTTP and protobuf, in this process: what a collector would have got."""

import contextlib
import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Received:
    """All that arrived."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[Span] = []
        self.metrics: list[Any] = []
        self.resource: dict[str, str] = {}
        self.heads: list[dict[str, str]] = []

    def take(self, path: str, body: bytes) -> None:
        if path == "/v1/traces":
            for whole in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resource |= {name: str(value) for name, value in values(whole.resource.attributes).items()}
                self.spans += [span for scope in whole.scope_spans for span in scope.spans]
        elif path == "/v1/metrics":
            found = ExportMetricsServiceRequest.FromString(body).resource_metrics
            self.metrics += [one for whole in found for scope in whole.scope_metrics for one in scope.metrics]

    def named(self, start: str) -> list[Span]:
        return [span for span in self.spans if span.name.startswith(start)]

    def metric(self, name: str) -> Any:
        return next(one for one in reversed(self.metrics) if one.name == name)


def values(attributes: Any) -> dict[str, Any]:
    """The attributes of a span, link or point as plain values."""

    def of(one: KeyValue) -> Any:
        return getattr(one.value, str(one.value.WhichOneof("value")))

    return {one.key: of(one) for one in attributes}


@contextlib.contextmanager
def otlp_receiver(status: int = 200) -> Iterator[Received]:
    """Listen on loopback. ``status`` is what each request is answered with."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            received.heads.append({name.lower(): value for name, value in self.headers.items()})
            if status == 200:
                received.take(self.path, body)
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    received = Received(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

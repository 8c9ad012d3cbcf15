"""Publishes events at an even rate until its input ends, then prints how many. A process of its own stays punctual.

python -m unlost.ops.bench.steady HOST PORT RATE RUN
"""

import sys
import threading
import time

from unlost.ops.bench.load import event, scattered
from unlost.ops.bench.pacing import Door, PacedPublisher

SIZE = 300


def main(host: str, port: str, rate: str, run: str) -> None:
    """Print the time of the first event by the wall clock, publish, and print the count of events."""
    ended = threading.Event()

    def read() -> None:
        sys.stdin.read()
        ended.set()

    publisher = PacedPublisher(Door(host, int(port)))
    threading.Thread(target=read, daemon=True).start()
    print(time.time() - time.perf_counter() + (began := time.perf_counter()), flush=True)

    def line_of(number: int) -> bytes:
        return event(number, run, SIZE, scattered(number, run))

    count = publisher.send_until(ended.is_set, line_of, float(rate), began)
    publisher.close()
    print(count, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

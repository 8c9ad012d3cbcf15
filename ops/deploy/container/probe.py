"""A health check: ``python -m unlost.ops.deploy.container.probe URL``; exit code 0 if the answer is 200.

It imports only the standard library, since it runs every few seconds. It prints the response, so that
``docker inspect`` shows why a container is unhealthy.
"""

import sys
import urllib.error
import urllib.request

SECONDS = 2.5


def probe(url: str, seconds: float = SECONDS) -> tuple[bool, str]:
    """Return whether ``url`` answers 200, and the response's text."""
    straight = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with straight.open(url, timeout=seconds) as answer:
            return answer.status == 200, answer.read(4096).decode(errors="replace")
    except urllib.error.HTTPError as error:
        return False, error.read(4096).decode(errors="replace")
    except OSError as error:
        return False, f"{url} does not answer: {error}"


def main() -> None:
    """Print the response; exit with 1 if the check fails."""
    if len(sys.argv) != 2 or not sys.argv[1].startswith("http://"):
        sys.exit("usage: python -m unlost.ops.deploy.container.probe http://HOST:PORT/PATH")
    is_well, said = probe(sys.argv[1])
    print(said)
    sys.exit(not is_well)


if __name__ == "__main__":
    main()

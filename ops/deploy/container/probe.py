"""One question about health: ``python -m unlost.ops.deploy.container.probe URL``, exit 0 for yes.

Uses the standard library alone, since it runs every few seconds. What is not well is printed, so that
``docker inspect`` shows the reasons.
"""

import sys
import urllib.error
import urllib.request

SECONDS = 2.5


def ask(url: str, seconds: float = SECONDS) -> tuple[bool, str]:
    """Whether ``url`` answers 200, and what it said."""
    straight = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with straight.open(url, timeout=seconds) as answer:
            return answer.status == 200, answer.read(4096).decode(errors="replace")
    except urllib.error.HTTPError as error:
        return False, error.read(4096).decode(errors="replace")
    except OSError as error:
        return False, f"{url} does not answer: {error}"


def main() -> None:
    """Print the answer; 1 where it is no."""
    if len(sys.argv) != 2 or not sys.argv[1].startswith("http://"):
        sys.exit("usage: python -m unlost.ops.deploy.container.probe http://HOST:PORT/PATH")
    is_well, said = ask(sys.argv[1])
    print(said)
    sys.exit(not is_well)


if __name__ == "__main__":
    main()

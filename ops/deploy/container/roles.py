"""Prepares the database of a compose project: ``python -m unlost.ops.deploy.container.roles DIRECTORY``.

It connects as the superuser, brings the tables up to date, and makes the roles that the daemons have, with the
passwords in DIRECTORY. It does so at each start, and then ends. So no daemon has the superuser's password.
"""

import asyncio
import os
import sys
from pathlib import Path

from unlost.listener.core.errors import UnlostError
from unlost.ops.deploy.container.secrets import DAEMONS, GROUP, PRODUCER, PRODUCER_ROLE
from unlost.ops.system.roles import prepared


def main() -> None:
    """Prepare it, or say in one sentence why not."""
    if len(sys.argv) != 2 or "DATABASE_URL" not in os.environ:
        sys.exit("usage: DATABASE_URL=… python -m unlost.ops.deploy.container.roles DIRECTORY")
    directory = Path(sys.argv[1])
    try:
        passwords = {kind: (directory / kind).read_text() for kind in DAEMONS}
        of_producers = directory / PRODUCER
        producers = (PRODUCER_ROLE, of_producers.read_text()) if of_producers.exists() else None
        asyncio.run(prepared(os.environ["DATABASE_URL"], GROUP, passwords, producers))
    except (UnlostError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"the tables of group {GROUP} are up to date; {' and '.join(DAEMONS)} have roles of their own")


if __name__ == "__main__":
    main()

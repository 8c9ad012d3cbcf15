"""A console as a process, at which people sign in."""

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.support.oidc import CLIENT, SECRET, IdentityProvider
from unlost.ops.kit.access.identity import Right
from unlost.ops.kit.access.table import TokenEntry, digest_of, new_token
from unlost.ops.kit.access.token_file import load_entries, save_entries
from unlost.ops.system.layout import executable
from unlost.ops.system.ports import free_port

OWN = {"x-unlost-console": "1"}
ONCALL: tuple[Right, ...] = ("read", "operate")


@dataclass
class RunningConsole:
    """``lines``: of its log."""

    url: str
    tokens: Path
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def browser(self, **more: str) -> httpx.Client:
        """A client that keeps cookies and goes where it is sent, as a browser does, but for SameSite."""
        return httpx.Client(
            base_url=self.url, trust_env=False, verify=False, timeout=20, follow_redirects=True, headers=more
        )

    def log(self) -> str:
        return "".join(self.lines)


def people_of(tokens: Path, group: str, *rights: Right) -> None:
    """Give a group of people its rights, in place of those that it has."""
    entries = load_entries(tokens) if tokens.exists() else []
    kept = [one for one in entries if one.name != group]
    save_entries(tokens, [*kept, *([TokenEntry(group, rights, subject=f"group:{group}")] if rights else [])])


def token_of(tokens: Path, name: str, *rights: Right) -> str:
    """A new token."""
    made = new_token()
    entries = load_entries(tokens) if tokens.exists() else []
    save_entries(tokens, [*entries, TokenEntry(name, rights, digest_of(made))])
    return made


@contextlib.contextmanager
def running_console(directory: Path, provider: IdentityProvider | None, **settings: str) -> Iterator[RunningConsole]:
    """A console without PostgreSQL, unless the settings name one."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    tokens = Path(settings.get("TOKENS_FILE", directory / "tokens.jsonl"))
    people_of(tokens, "oncall", *ONCALL)
    known = {
        "PORT": str(port), "LISTENERS": "", "DATABASE_URL": f"postgresql:///none?host={directory}",
        "TOKENS_FILE": str(tokens), "LOG_LEVEL": "debug",
    }  # fmt: skip
    if provider is not None:
        (directory / "secret").write_text(SECRET)
        known |= {
            "OIDC_ISSUER": provider.issuer, "OIDC_CLIENT_ID": CLIENT,
            "OIDC_CLIENT_SECRET_FILE": str(directory / "secret"),
            "OIDC_REDIRECT_URL": f"{url}/signin/callback",
        }  # fmt: skip
    process = subprocess.Popen(
        [executable("unlost"), "console"], env={**os.environ, **known, **settings}, stderr=subprocess.PIPE, text=True
    )
    one = RunningConsole(url, tokens, process)
    up = threading.Event()
    reading = threading.Thread(target=_read, args=(one, up), daemon=True)
    reading.start()
    try:
        assert up.wait(170), one.log()
        assert process.poll() is None, one.log()
        yield one
    finally:
        process.terminate()
        process.wait(15)
        reading.join(5)


def _read(one: RunningConsole, up: threading.Event) -> None:
    assert one.process.stderr is not None
    with one.process.stderr as lines:
        for line in lines:
            one.lines.append(line)
            if '"listening"' in line:
                up.set()
    up.set()

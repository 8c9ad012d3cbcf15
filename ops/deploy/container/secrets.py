"""Makes the secrets of a compose project once: ``python -m unlost.ops.deploy.container.secrets DIRECTORY``.

Each container has a directory of its own, which holds what it needs and nothing else. An existing secret is kept, never
overwritten, so a second start changes nothing. The file of tokens is the owner's: what was added stays, and what was
revoked stays revoked. To get a new token for a container, remove its volume.
"""

import hashlib
import os
import secrets
import sys
from pathlib import Path

from unlost.listener.claims.redis.rights import rules
from unlost.listener.store.postgres.roles import RoleNames
from unlost.ops.kit.access.identity import Right
from unlost.ops.kit.access.table import TokenEntry, digest_of, new_token
from unlost.ops.kit.access.token_file import load_entries, save_entries

GROUP = "unlost"
SUPERUSER = "unlost"
DAEMONS = ("listener", "console")
"""The daemons that use PostgreSQL. Each has a role, whose rights ``roles.py`` gives."""
PRODUCER = "producer"
PRODUCER_ROLE = f"{GROUP}_{PRODUCER}"
"""For a journal in PostgreSQL."""
SERVICE = "claims"
"""The name by which Sentinels know the primary."""
ROLES = (RoleNames.of(GROUP).listener, RoleNames.of(GROUP).console)
FOR_OTHER_USERS = 0o644
"""In a directory that only one container has, which reads it as a user of its own."""
TOKENS: dict[str, tuple[Right, ...]] = {
    "producer": ("read",),
    "listener": ("read", "read:payload"),
    "console": ("read", "read:payload", "publish"),
    "audit": ("read",),
    "tools": ("admin",),
    "prometheus": ("read",),
}
REPORTS = "listener"
"""Only an identity that names a group may report what it has read."""


def provide(directory: Path, redis_host: str = "redis", *, sentinels: str = "", shared_journal: bool = False) -> bool:
    """Create what is missing; return whether anything is new.

    ``redis_host``: where clients find Redis, unless ``sentinels`` know it. ``shared_journal``: the producers' is in
    PostgreSQL.
    """
    at = f"redis+sentinel://{{}}@{sentinels}/{SERVICE}/0" if sentinels else f"redis://{{}}@{redis_host}:6379/0"
    news = (_passwords(directory, shared_journal), _redis(directory, at), _tokens(directory))
    return any(news)


def _passwords(directory: Path, shared_journal: bool) -> bool:
    """Passwords of PostgreSQL, each with the clients that need it. Only what is no daemon is the superuser."""
    owner, is_new = _password(directory / "postgres" / "password")
    lines = {SUPERUSER: f"*:*:*:{SUPERUSER}:{owner}\n"}
    producer = {PRODUCER: PRODUCER_ROLE} if shared_journal else {}
    for kind, role in (dict(zip(DAEMONS, ROLES, strict=True)) | producer).items():
        password, fresh = _password(directory / "migrate" / kind)
        lines[role] = f"*:*:*:{role}:{password}\n"
        is_new = is_new or fresh
    listener, console = ROLES
    clients = {
        "migrate": (SUPERUSER,), "tools": (SUPERUSER, listener), "listener": (listener,),
        "console": (console, listener), "audit": (console,), **{kind: (role,) for kind, role in producer.items()},
    }  # fmt: skip
    for client, roles in clients.items():
        _write(directory / client / "pgpass", "".join(lines[one] for one in roles))
    return is_new


def _redis(directory: Path, at: str) -> bool:
    """A user of Redis for listeners and replays, an administrator, and a probe that may ask whether Redis lives.

    ``at``: the URL, with a place for the login.
    """
    claims, is_new = _password(directory / "redis" / "claims", FOR_OTHER_USERS)
    administrator, _ = _password(directory / "redis" / "admin", FOR_OTHER_USERS)
    users = (
        "user default on nopass resetkeys resetchannels -@all +ping",
        f"user admin on #{_digest(administrator)} ~* &* +@all",
        f"user claims on #{_digest(claims)} resetchannels -@all {rules(GROUP)}",
    )
    _write(directory / "redis" / "users.acl", "\n".join(users) + "\n", FOR_OTHER_USERS)
    for client in ("listener", "console", "tools"):
        _write(directory / client / "redis.url", at.format(f"claims:{claims}"))
    return is_new


def _digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


def _password(file: Path, mode: int = 0o600) -> tuple[str, bool]:
    """The password in a file, and whether it is new."""
    if file.exists():
        return file.read_text(), False
    password = secrets.token_urlsafe(32)
    _write(file, password, mode)
    return password, True


def _tokens(directory: Path) -> bool:
    """Make the tokens that are missing. Tokens that were made before stand in the file as their owner left it there.

    So one that was revoked, or given other rights, stays so. The file is saved before the tokens: a token without its
    line would look revoked. If the whole file is lost, all tokens are made anew.
    """
    file = directory / "tokens" / "tokens.jsonl"
    fresh = {name: new_token() for name in TOKENS if not (file.exists() and (directory / name / "token").exists())}
    if not fresh:
        return False
    kept = [one for one in (load_entries(file) if file.exists() else []) if one.name not in fresh]
    save_entries(file, [*(_entry(name, token) for name, token in fresh.items()), *kept])
    for name, token in fresh.items():
        mode = FOR_OTHER_USERS if name == "prometheus" else 0o600
        _write(directory / name / "authorization", f"Bearer {token}", mode)
        _write(directory / name / "token", token, mode)  # the last: as long as it is missing, both are made anew
    return True


def _entry(name: str, token: str) -> TokenEntry:
    return TokenEntry(name, TOKENS[name], digest_of(token), groups=(GROUP,) if name == REPORTS else ())


def _write(path: Path, text: str, mode: int = 0o600) -> None:
    """Write the file atomically: an interrupted write leaves no partial secret behind."""
    path.parent.mkdir(exist_ok=True)
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), mode)
    draft.replace(path)


def main() -> None:
    """Report what was done, but never print a secret."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m unlost.ops.deploy.container.secrets DIRECTORY")
    directory = Path(sys.argv[1])
    print(
        f"new secrets in {directory}"
        if provide(
            directory,
            os.environ.get("REDIS_HOST", "redis"),
            sentinels=os.environ.get("REDIS_SENTINELS", ""),
            shared_journal=bool(os.environ.get("SHARED_JOURNAL")),
        )
        else f"the secrets in {directory} are kept"
    )


if __name__ == "__main__":
    main()

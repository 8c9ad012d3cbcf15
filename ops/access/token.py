"""``unlost token``: make tokens, list who has one, and revoke them. Running servers notice within a second."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from pydantic import Field

from unlost.dlq.record.trail import Act, note_beside, whoami
from unlost.ops.kit.access.identity import RIGHTS, Right
from unlost.ops.kit.access.limits import Limits
from unlost.ops.kit.access.table import (
    OF_GROUP,
    TokenEntry,
    WrongTokens,
    digest_of,
    new_token,
    read_entries,
    table_of,
    written,
)
from unlost.ops.kit.access.token_file import load_entries, save_entries
from unlost.ops.kit.command import Settings, UsageProblem, command, main_group, say, say_json_text
from unlost.ops.kit.telemetry.files import private_descriptor, private_directory


class TokenSettings(Settings):
    """Where the tokens are."""

    tokens_file: Path = Field(Path("tokens.jsonl"), description="File of tokens and their rights")


_name = click.Argument(["name"])


@command(
    TokenSettings,
    name="create",
    examples=[
        "unlost token create shop --rights publish",
        "unlost token create listener --rights read --groups unlost",
        "unlost token create prometheus --rights read --out /run/secrets/prometheus",
        "unlost token create ana --rights read,publish,operate",
        "unlost token create oncall --rights read,operate --people oncall@example.org",
        "unlost token create shop --rights publish --events 500 --bytes 1000000",
    ],
    params=[
        _name,
        click.Option(["--rights"], default="read", show_default=True, help=f"Of {', '.join(RIGHTS)}; with commas."),
        click.Option(["--groups"], default="", help="Groups in which it may act, with commas; none given: all."),
        click.Option(["--subject"], default="", help="A client certificate with this subject is the same identity."),
        click.Option(["--certificate-only"], is_flag=True, help="Make no token: the certificate alone identifies."),
        click.Option(["--people"], default="", help="Make no token: people of this group, whom a proxy signs in."),
        click.Option(["--events"], type=click.FloatRange(min=0), help="Events that it may publish per second; 0: any."),
        click.Option(["--bytes", "size"], type=click.FloatRange(min=0), help="Bytes of events per second; 0: any."),
        click.Option(["--streams"], type=click.IntRange(min=0), help="Streams that it may open at once; 0: any."),
        click.Option(["--replays"], type=click.IntRange(min=0), help="Replays at once in a console; 0: any; else 1."),
        click.Option(["--out"], type=click.Path(path_type=Path), help="Write the token to a new private file."),
    ],
)
def create(
    settings: TokenSettings, name: str, rights: str, groups: str, subject: str, certificate_only: bool,
    people: str, events: float | None, size: float | None, streams: int | None, replays: int | None,
    out: Path | None,
) -> int:  # fmt: skip
    """Make a token and print it. It is shown once: the file keeps its SHA-256 alone.

    A limit that is not given is the producer's (EVENTS_PER_SECOND, BYTES_PER_SECOND, STREAMS_PER_IDENTITY); of replays,
    one runs at a time.
    """
    if certificate_only and not subject:
        raise UsageProblem("--certificate-only needs --subject")
    if people and subject:
        raise UsageProblem("--people and --subject contradict each other; give one of them")
    subject = f"{OF_GROUP}{people}" if people else subject
    token = "" if certificate_only or people else new_token()
    entry = TokenEntry(
        name, _rights(rights), digest_of(token) if token else "", subject, _items(groups),
        datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), Limits(events, size, streams, replays),
    )  # fmt: skip
    with _changing(settings.tokens_file) as entries:
        if any(one.name == name for one in entries):
            raise UsageProblem(f"{name} has a token already; revoke it first, or choose another name")
        entries.append(entry)
    _note(
        settings.tokens_file,
        "token created",
        f"{name}, {','.join(entry.rights)}, groups {','.join(entry.groups) or 'all'}",
    )
    if token and out is not None:
        _write(out, token)
    elif token:
        say(token)
    return 0


@command(
    TokenSettings,
    name="list",
    examples=["unlost token list", "unlost token list --json"],
    params=[click.Option(["--json", "as_json"], is_flag=True, help="Print JSON lines.")],
)
def list_(settings: TokenSettings, as_json: bool) -> int:
    """List who has a token or a certificate, and what each may do. No token can be shown."""
    for one in _entries(settings.tokens_file):
        if as_json:
            say_json_text(msgspec.json.encode(one).decode())
        else:
            kind = " and ".join(
                what for what, there in (("token", one.sha256), (f"certificate {one.subject}", one.subject)) if there
            )
            kind += _limits(one)
            kind += _limits(one)
            groups = f"groups {','.join(one.groups)}" if one.groups else "all groups"
            say(f"{one.name:<20}  {','.join(one.rights):<24}  {groups:<20}  {one.created:<20}  {kind}".rstrip())
    return 0


def _limits(entry: TokenEntry) -> str:
    given = msgspec.to_builtins(entry.limits)
    return "".join(f", {name} {value:g}" for name, value in given.items() if value is not None)


@command(TokenSettings, name="revoke", examples=["unlost token revoke shop"], params=[_name])
def revoke(settings: TokenSettings, name: str) -> int:
    """Revoke the token of a name. Servers refuse it within a second, and end its open streams."""
    with _changing(settings.tokens_file) as entries:
        kept = [one for one in entries if one.name != name]
        if len(kept) == len(entries):
            raise UsageProblem(f"{name} has no token in {settings.tokens_file}")
        entries[:] = kept
    _note(settings.tokens_file, "token revoked", name)
    say(f"revoked {name}")
    return 0


token = main_group(
    "token",
    [create, list_, revoke],
    help="Make, list and revoke the tokens of TOKENS_FILE.",
    examples=["unlost token create shop --rights publish", "unlost token list", "unlost token revoke shop"],
)


def _rights(text: str) -> tuple[Right, ...]:
    found = _items(text)
    wrong = [one for one in found if one not in RIGHTS]
    if wrong or not found:
        raise UsageProblem(f"--rights are some of {', '.join(RIGHTS)}, not {', '.join(wrong) or 'nothing'}")
    return tuple(right for right in RIGHTS if right in found)


def _items(text: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in text.split(",") if one.strip())


def _entries(path: Path) -> list[TokenEntry]:
    try:
        return load_entries(path)
    except WrongTokens as error:
        raise UsageProblem(f"TOKENS_FILE {path}: {error}") from None


@contextmanager
def _changing(path: Path) -> Iterator[list[TokenEntry]]:
    """The entries, which are checked and saved at the end. Two commands at once wait for each other."""
    private_directory(path.absolute().parent)
    lock = private_descriptor(path.absolute().with_name(f".{path.name}.lock"), os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        entries = _entries(path) if path.exists() else []
        yield entries
        table_of(read_entries(written(entries)))
        save_entries(path.absolute(), entries)
    except WrongTokens as error:
        raise UsageProblem(str(error)) from None
    except OSError as error:
        raise UsageProblem(f"TOKENS_FILE {path}: {error.strerror}") from None
    finally:
        os.close(lock)


def _note(file: Path, what: str, about: str) -> None:
    """Write the change into the trail of the file."""
    note_beside(file.absolute(), Act(whoami(), "unlost token", what, about, "", "done"))


def _write(path: Path, token: str) -> None:
    try:
        with open(private_descriptor(path, os.O_WRONLY | os.O_EXCL), "w") as file:  # noqa: PTH123  a descriptor
            file.write(token)
    except OSError as error:
        raise UsageProblem(f"--out {path}: {error.strerror}") from None

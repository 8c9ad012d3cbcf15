"""No foreign text controls a terminal, whether it is from an event, an error or a server."""

import io
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import structlog
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from tests.support.letters import invalid, letter, mark, write
from unlost.dlq.commands.cli import main
from unlost.dlq.record.letter import Letter
from unlost.ops.kit.command import UsageProblem
from unlost.ops.kit.telemetry.logs import configure_logs
from unlost.ops.kit.telemetry.printable import printable, printable_json, printable_lines
from unlost.ops.watch.picture import DatabaseState, Listener, Picture, Producer
from unlost.ops.watch.table import render
from unlost.ops.watch.verdict import verdict

NASTY = "\x1b[2J\x07\r\x7f\x9b31m\x90\u200b\u202e\u2066\u2069\u061c\ufeff\u2028\U000e0001"
hostile = st.lists(st.sampled_from([*NASTY, "a", " ", "é", "漢", "\n", "\t"]) | st.characters()).map("".join)


def unsafe(text: str) -> list[str]:
    return [one for one in text if one != "\n" and not one.isprintable()]


@given(hostile)
@example(NASTY)
@example("\ud800")
def test_nothing_that_is_not_printable_passes(text: str):
    assert printable(text).isprintable()
    assert unsafe(printable_lines(text)) == []
    assert printable_lines(text).count("\n") == text.count("\n")


@given(st.text(alphabet=st.characters(categories=("L", "N", "P", "S"))))
def test_printable_text_is_unchanged(text: str):
    assert printable(text) == printable_lines(text) == text


@given(
    st.recursive(hostile, lambda inner: st.lists(inner) | st.dictionaries(hostile, inner)),
    st.sampled_from([None, 1, "\t"]),
)
def test_json_means_the_same_afterwards(value: object, indent: int | str | None):
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    assert unsafe(printable_json(text)) == []
    assert json.loads(printable_json(text)) == json.loads(text)


def letters_with(text: str) -> Sequence[Letter]:
    return [
        letter("a" + text[:100], message=text, error_type="E" + text, reason="rejected", type=text[:200], more=text),
        invalid("frame", text.encode("utf-8", "surrogatepass")),
    ]


@settings(max_examples=25, deadline=None)
@given(
    st.text(alphabet=st.characters(categories=("Cc", "Cf", "Zl", "Zp", "L")), min_size=1).filter(
        lambda t: "\0" not in t
    )
)
@example(NASTY)
@example("\n\tFORGED  line")
def test_no_command_of_dlq_prints_what_drives_a_terminal(text: str):
    with TemporaryDirectory() as directory:
        path = write(Path(directory) / "letters.jsonl", letters_with(text))
        mark(path, "frame", "archived", text)
        with path.open("ab") as file:
            file.write(b'{"torn' + text.encode("utf-8", "surrogatepass") + b"\n")
        path.with_name(path.name + ".replay").write_text(text)
        for words in (
            ["list"], ["list", "--json"], ["show", "0123"], ["show", "0123", "--json"], ["groups"],
            ["groups", "--json"], ["stats"], ["verify"], ["verify", "--json"], ["replay", "--dry-run"],
            ["show", "nobody" + text], ["archive", "--id", "0123", "--why", text],
        ):  # fmt: skip
            done = CliRunner().invoke(main, [*words, str(path)])
            assert not isinstance(done.exception, Exception) or isinstance(done.exception, SystemExit), done.exception
            assert unsafe(done.stdout + done.stderr) == [], words


@settings(deadline=None)
@given(hostile)
@example(NASTY)
def test_top_shows_names_and_errors_of_others_safely(text: str):
    picture = Picture(
        at=1.0, listeners=(Listener(url="http://a", name=text, error=text), Listener(url="http://b", name="b" + text)),
        producer=Producer(url="http://p", error=text), database=DatabaseState(error=text),
    )  # fmt: skip
    out = io.StringIO()
    Console(file=out, width=200, force_terminal=False).print(render(picture, verdict(picture)))
    assert unsafe(out.getvalue()) == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def loggers():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def fail(message: str) -> None:
    raise ValueError(message)


@pytest.mark.usefixtures("loggers")
def test_no_log_line_drives_the_terminal_it_goes_to(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    configure_logs("info", "a", stream=terminal)
    try:
        fail(NASTY)
    except ValueError as error:
        structlog.get_logger().exception("failed" + NASTY, error=error, nested={"all": [NASTY]}, text=NASTY)
    logging.getLogger("a.library").warning("lost %s", NASTY)
    said = terminal.getvalue()
    assert "Traceback" in said
    colors = [f"\x1b[{number}m" for number in range(100)]
    for color in colors:
        said = said.replace(color, "")
    assert unsafe(said) == []


def test_a_refusal_that_quotes_others_is_safe_too(capsys: pytest.CaptureFixture[str]):
    UsageProblem(f"it answered 500: {NASTY}").show()
    assert unsafe(capsys.readouterr().err) == []

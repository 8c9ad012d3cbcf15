"""The settings kit: one class makes flags, environment names, help and checks, and reports all mistakes together."""

import json
from importlib.metadata import version
from typing import Self

import click
import pytest
from click.testing import CliRunner
from pydantic import Field, model_validator

from unlost.ops.kit.command import Secret, SecretUrl, Settings, UsageProblem, command, main_group


class Sample(Settings):
    port: int = Field(3005, ge=0, le=65535, description="HTTP port")
    redis_url: SecretUrl = Field(SecretUrl("redis://:hunter2@h:1/0"), description="Redis")
    word: Secret | None = None
    names: tuple[str, ...] = ()
    low: float = 1
    high: float = 2

    @model_validator(mode="after")
    def _low_is_below_high(self) -> Self:
        if self.low > self.high:
            raise ValueError("--low (LOW) must not exceed --high (HIGH)")
        return self

    @model_validator(mode="after")
    def _port_is_not_seven(self) -> Self:
        if self.port == 7:
            raise ValueError("--port (PORT) must not be 7")
        return self


@command(Sample, examples=["sample --port 1"], params=[click.Argument(["paths"], nargs=-1, required=True)])
def sample(settings: Sample, paths: tuple[str, ...]) -> int:
    """Do a thing."""
    click.echo(json.dumps([settings.port, list(settings.names), list(paths), settings.redis_url.reveal()]))
    return 3 if "fail" in paths else 0


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *args, **env: CliRunner().invoke(sample, args, env=env, prog_name="sample")


def test_an_env_file_that_is_no_text_is_one_sentence(run, tmp_path):
    (tmp_path / ".env").write_bytes(b"PORT=\xff")
    done = run("p")
    assert done.exit_code == 2
    assert ".env in the working directory is not UTF-8 text" in done.stderr


def test_a_line_of_an_env_file_that_is_no_setting_is_one_sentence(run, tmp_path, caplog):
    (tmp_path / ".env").write_text("PORT=1\n# mine\n\nlook at this: x\nNAMES='a\n")
    done = run("p")
    assert done.exit_code == 2
    assert done.stderr == ("error: .env in the working directory, line 4, 5: is not NAME=value; correct or remove it\n")
    assert caplog.records == []


def test_a_flag_beats_the_environment_which_beats_the_file(run, tmp_path):
    (tmp_path / ".env").write_text("PORT=1\nNAMES=x, y\nLOW=0.5\n")
    assert json.loads(run("p").output)[:2] == [1, ["x", "y"]]
    assert json.loads(run("p", PORT="2").output)[0] == 2
    assert json.loads(run("p", "--port", "3", PORT="2").output)[0] == 3


def test_all_mistakes_come_at_once_with_flag_and_variable(run):
    result = run("p", "--low", "9", "--port", "zz", WORD="", REDIS_URL="hunter2")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "error: --port (PORT): input should be a valid integer, unable to parse string as an integer, not 'zz'",
        "error: --redis-url (REDIS_URL): must be a URL such as scheme://host:port/name (before the host: user:pw@)",
        "error: --low (LOW) must not exceed --high (HIGH)",
    ]


def test_two_broken_relations_are_both_reported(run):
    assert len(run("p", "--low", "9", "--port", "7").stderr.splitlines()) == 2


def test_secrets_stay_hidden_wherever_settings_are_shown(run):
    shown = run("--show-settings", WORD="hunter2").output
    as_json = run("--show-settings", "--json", "--port", "9", WORD="hunter2").output
    reported = run("--help").output + shown + as_json + repr(Sample(word=Secret("hunter2")))
    assert "hunter2" not in reported
    assert json.loads(as_json)["port"] == 9
    assert "redis://***@h:1/0" in shown
    assert SecretUrl("redis://:hunter2@h").reveal() == "redis://:hunter2@h"


def test_help_shows_description_variable_default_and_example(run):
    text = " ".join(run("--help").output.split())
    assert "HTTP port [env PORT; default 3005]" in text
    assert "sample --port 1" in text


def test_exit_codes_and_version(run):
    assert run("fail").exit_code == 3
    assert run("p").exit_code == 0
    assert run("--version").output == f"unlost {version('unlost')}\n"
    assert run().exit_code == 2


def test_a_group_shows_its_commands_and_a_problem_exits_with_two():
    @command(Sample)
    def broken(settings: Sample) -> None:
        """Fail."""
        raise UsageProblem("port 1 is taken", "the file is gone")

    group = main_group("tool", [sample, broken], help="A tool.", examples=["tool sample x"])
    result = CliRunner().invoke(group, ["broken"])
    assert result.exit_code == 2
    assert result.stderr == "error: port 1 is taken\nerror: the file is gone\n"
    assert "sample" in CliRunner().invoke(group, ["--help"]).output

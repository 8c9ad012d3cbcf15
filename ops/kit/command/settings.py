"""Settings: defined once as a class; flags take precedence over the environment, the environment over ``.env``.

All errors are reported together: wrong fields, and broken relations between fields. A relation is not checked when one
of its own fields is wrong, since its error would only repeat the first one.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args, get_origin

import click
from dotenv.parser import parse_stream
from pydantic import TypeAdapter, ValidationError, create_model, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from unlost.ops.kit.command.say import say
from unlost.ops.kit.command.secret import Secret
from unlost.ops.kit.telemetry.mask import masked


class UsageProblem(click.ClickException):
    """The command cannot start. ``problems`` has one sentence per error; the exit code is 2."""

    exit_code = 2

    def __init__(self, *problems: str) -> None:
        self.problems = tuple(map(masked, problems))
        super().__init__("\n".join(self.problems))

    def show(self, file: Any = None) -> None:
        """Print each error on its own line, on stderr."""
        for problem in self.problems:
            say(f"error: {problem}", err=True, file=file)


LONGEST_SECRET = 64 * 1024
ENV_FILE = ".env"
MOST_LINES = 5
"""How many lines that cannot be read are named."""


class Settings(BaseSettings):
    """Base class of every command's settings. Lists are written with commas between their items.

    A secret may stand in a file: ``NAME_FILE`` is its path.
    """

    removed: ClassVar[Mapping[str, str]] = {}
    """Environment variables of earlier versions, and what replaces each. To ignore one could be dangerous."""

    model_config = SettingsConfigDict(
        defer_build=True,  # most classes are bases of others, and none of those is ever validated
        env_file=ENV_FILE,
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,
        enable_decoding=False,
        validate_default=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  pydantic's own have other names
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags come first, then the environment and the files that it names, then ``.env`` and those that it names."""
        named = _SecretFiles(settings_cls, of_environment=True)
        return init_settings, env_settings, named, dotenv_settings, _SecretFiles(settings_cls, of_environment=False)

    @model_validator(mode="before")
    @classmethod
    def _lists_from_text(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {name: _split(cls.model_fields.get(name), value) for name, value in data.items()}

    @classmethod
    def load(cls, given: Mapping[str, Any]) -> Self:
        """Load the settings; ``given`` (by field name) overrides the environment. Raises ``UsageProblem``."""
        try:
            if lines := _unreadable_lines(Path(ENV_FILE)):
                raise UsageProblem(
                    f".env in the working directory, line {', '.join(map(str, lines[:MOST_LINES]))}: "
                    "is not NAME=value; correct or remove it"
                )
            if problems := [f"{name} is not used any more: {instead}" for name, instead in _removed(cls)]:
                raise UsageProblem(*problems)
            return cls(**given)
        except UnicodeDecodeError as error:
            raise UsageProblem(f".env in the working directory is not UTF-8 text: {error}") from None
        except ValidationError as error:
            wrong = {str(one["loc"][0]) for one in error.errors() if one["loc"]}
            fields = [_sentence(one, cls) for one in error.errors() if one["loc"]]
            raise UsageProblem(*fields, *_broken_relations(cls, given, wrong)) from None


class _Unchecked(BaseSettings):
    """Reads from the same sources as a command's settings, but checks nothing.

    Pydantic reads ``model_config`` only once, when a class is defined: here.
    """

    model_config = Settings.model_config


class _SecretFiles(PydanticBaseSettingsSource):
    """Secrets in files that ``NAME_FILE`` names, as Docker, Kubernetes and systemd provide them.

    A file that the environment names has precedence over a secret in ``.env``, as every variable of it has.
    """

    def __init__(self, settings_cls: type[BaseSettings], *, of_environment: bool) -> None:
        """``of_environment``: files that the environment names; otherwise those that ``.env`` names."""
        super().__init__(settings_cls)
        self._of_environment = of_environment

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        """Return the content of the field's file; None without one."""
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return all secrets that stand in files."""
        fields = self.settings_cls.model_fields.items()
        names = {f"{name}_file": name for name, info in fields if _is_secret(info.annotation)}
        files = _in_environment(*names)
        if not self._of_environment:
            files = {file: path for file, path in _outer(*names).items() if file not in files}
        twice = _in_environment if self._of_environment else _outer
        return {names[file]: _secret_in(names[file], path, twice) for file, path in files.items()}


def _secret_in(name: str, path: str, twice: Callable[[str], Mapping[str, str]]) -> str:
    if twice(name):
        raise UsageProblem(f"{name.upper()} and {name.upper()}_FILE are both set; keep one of them")
    try:
        with Path(path).open("rb") as file:
            return file.read(LONGEST_SECRET).decode().rstrip("\r\n")
    except OSError as error:
        raise UsageProblem(f"{name.upper()}_FILE {path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageProblem(f"{name.upper()}_FILE {path}: is not UTF-8 text") from None


def _unreadable_lines(file: Path) -> list[int]:
    """The numbers of lines that hold no setting. Otherwise each reading of the file would log a warning for each."""
    if not file.is_file():
        return []
    with file.open(encoding="utf-8") as text:
        wrong = [one.original for one in parse_stream(text) if one.error]
    # A statement begins after the one before it, so blank lines may come first.
    return [one.line + one.string[: -len(one.string.lstrip()) or None].count("\n") for one in wrong]


def _in_environment(*names: str) -> dict[str, str]:
    """Those of these variables that the environment sets, and that are not empty."""
    outer = {name.lower(): value for name, value in os.environ.items() if value}
    return {name: outer[name] for name in names if name in outer}


def _outer(*names: str) -> dict[str, str]:
    """Those of these variables that the environment or ``.env`` sets, and that are not empty."""
    loose: dict[str, Any] = dict.fromkeys(names, (Any, None))
    raw = create_model("Raw", __base__=_Unchecked, **loose)() if names else None
    return {name: str(value) for name in names if (value := getattr(raw, name)) is not None}


def _removed(cls: type[Settings]) -> Iterator[tuple[str, str]]:
    removed = {name.lower(): name for name in cls.removed}
    for name in _outer(*removed):
        yield removed[name], cls.removed[removed[name]]


def flag_name(field: str) -> str:
    """The flag of a field on the command line."""
    return "--" + field.replace("_", "-")


def _split(info: FieldInfo | None, value: object) -> object:
    if info is None or not isinstance(value, str) or not _is_list(info.annotation):
        return value
    return [item.strip() for item in value.split(",") if item.strip()]


def _is_list(annotation: Any) -> bool:
    if get_origin(annotation) in (tuple, list, set, frozenset):
        return True
    return get_origin(annotation) not in (None, Literal) and any(_is_list(part) for part in get_args(annotation))


def _sentence(error: Any, cls: type[Settings]) -> str:
    field = str(error["loc"][0])
    name = f"{flag_name(field)} ({field.upper()})"
    if error["type"] == "missing":
        return f"{name} is missing; give the flag or set the environment variable"
    reason = error["msg"].removeprefix("Value error, ")
    value = error["input"]
    if isinstance(value, Mapping) or _is_secret(cls.model_fields[field].annotation):
        return f"{name}: {reason}"
    return f"{name}: {reason[:1].lower()}{reason[1:]}, not {value!r}"


def _is_secret(annotation: Any) -> bool:
    return any(isinstance(one, type) and issubclass(one, Secret) for one in (annotation, *get_args(annotation)))


def secret_names(*kinds: type[Settings]) -> frozenset[str]:
    """The environment variables that hold secrets of these settings, and those that name a file with a secret."""
    fields = {name for kind in kinds for name, info in kind.model_fields.items() if _is_secret(info.annotation)}
    return frozenset(one for name in fields for one in (name.upper(), f"{name.upper()}_FILE"))


def _broken_relations(cls: type[Settings], given: Mapping[str, Any], wrong: set[str]) -> Iterator[str]:
    """Run each relation's validator on a model without the wrong fields; it is skipped if it needs one of them."""
    model = cls.model_construct(**_sound_values(cls, given, wrong))
    for name in wrong:
        model.__dict__.pop(name, None)
    for name, decorator in cls.__pydantic_decorators__.model_validators.items():
        if decorator.info.mode != "after":
            continue
        try:
            getattr(model, name)()
        except (ValueError, AssertionError) as error:
            yield str(error)
        except AttributeError:
            continue


def _sound_values(cls: type[Settings], given: Mapping[str, Any], wrong: set[str]) -> dict[str, Any]:
    loose: dict[str, Any] = dict.fromkeys(cls.model_fields, (Any, None))
    raw = create_model("Raw", __base__=_Unchecked, **loose)
    merged = raw(**given).model_dump(exclude_unset=True)
    sound = {}
    for name, info in cls.model_fields.items():
        value = merged[name] if name in merged else info.get_default(call_default_factory=True)
        if name in wrong or info.annotation is None:
            continue
        kind: Any = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
        sound[name] = TypeAdapter(kind).validate_python(_split(info, value))
    return sound

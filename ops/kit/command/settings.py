"""Settings: defined once as a class; flags take precedence over the environment, the environment over ``.env``.

All errors are reported together: wrong fields, and broken relations between fields. A relation is not checked when one
of its own fields is wrong, since its error would only repeat the first one.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self, get_args, get_origin

import click
from pydantic import TypeAdapter, ValidationError, create_model, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

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


class Settings(BaseSettings):
    """Base class of every command's settings. Lists are written with commas between their items."""

    model_config = SettingsConfigDict(
        env_file=".env",
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,
        enable_decoding=False,
        validate_default=True,
    )

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

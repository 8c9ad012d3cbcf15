"""The address of a broker as SOURCE gives it: ``scheme://hosts/name?option=value``. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from unlost.listener.core.errors import Misconfigured
from unlost.ops.kit.telemetry.address import split_address
from unlost.ops.kit.telemetry.mask import masked


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Hosts, the name of the stream, topic or queue, and options."""

    scheme: str
    user: str
    """``name:password@`` as it was written, or empty."""
    hosts: tuple[str, ...]
    path: str
    options: Mapping[str, str]

    @property
    def name(self) -> str:
        """The address without credentials and options: the name of the source."""
        return f"{self.scheme}://{','.join(self.hosts)}/{self.path}"

    @property
    def servers(self) -> list[str]:
        """The address of each host, with credentials."""
        return [f"{self.scheme}://{self.user}{host}" for host in self.hosts]

    def seconds(self, option: str, default: float) -> float:
        """Return an option that is a number of seconds."""
        text = self.options.get(option)
        try:
            value = default if text is None else float(text)
        except ValueError:
            value = 0.0
        if not 0 < value <= 86400:
            raise Misconfigured(f"SOURCE={self.name}: {option} is a number of seconds up to 86400, not {text}")
        return value


def read_address(
    text: str, *, what: str, port: int, options: Collection[str], setting: str = "SOURCE"
) -> BrokerAddress:  # fmt: skip
    """Read an address; ``Misconfigured`` if it has another form. ``what``: the kind of thing that its path names.

    Empty: the path may be empty.
    """
    parts = split_address(text)
    user, at, places = parts.netloc.rpartition("@")
    hosts = tuple(one if ":" in one else f"{one}:{port}" for one in places.split(",") if one)
    path = unquote(parts.path.strip("/"))
    given = parse_qsl(parts.query, keep_blank_values=True)
    wrong = [] if hosts else ["it names no host"]
    wrong += [] if path or not what else [f"it names no {what}, as in {parts.scheme}://host:{port}/{what}"]
    names = [name for name, _ in given]
    wrong += [f"the option {one} is not known; known are {', '.join(sorted(options))}" for one in {*names} - {*options}]
    wrong += [f"the option {one} occurs twice" for one in {*names} if names.count(one) > 1]
    wrong += [f"the option {name} is empty" for name, value in given if not value]
    if wrong:
        raise Misconfigured(f"{setting}={masked(text)}: {'; '.join(sorted(wrong))}")
    return BrokerAddress(parts.scheme, f"{user}{at}", hosts, path, dict(given))


def consumer_of(group: str) -> str:
    """Return the name of a group's consumer, unless the address names another. It ends the source's name."""
    return f"unlost-{group}"


def same(one: str, other: str) -> bool:
    """Whether two names of sources mean the same consumer. They may name other hosts of one cluster."""
    a, b = split_address(one), split_address(other)
    hosts = {*a.netloc.split(",")} & {*b.netloc.split(",")}
    return a._replace(netloc="") == b._replace(netloc="") and bool(hosts)

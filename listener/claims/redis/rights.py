"""The rights that a group's listeners need in Redis, as rules of an ACL. Pure.

The keys of a group begin with ``{GROUP.NUMBER}``; on one server the number is 0. Each pattern is that tag as a whole.
So it matches no other group, whatever its name: the keys of a group named ``unlost.0`` begin with ``{unlost.0.0}``.
"""

COMMANDS = (
    "eval", "evalsha", "mget", "get", "set", "hget", "hset", "del", "scan", "object|idletime", "info", "time",
    "cluster|slots",
)  # fmt: skip
NEWER = ("msetex", "client|setinfo")
"""Commands that not every server knows: Valkey 9.1 and Redis 8.4; Redis 7.2."""
DIGITS = 4
"""The largest number of digits in such a number on a Cluster."""


def keys(group: str, *, cluster: bool = False) -> tuple[str, ...]:
    """The patterns of a group's keys."""
    numbers = ["[0-9]" * count for count in range(1, DIGITS + 1)] if cluster else ["0"]
    return tuple(f"~{{{group}.{number}}}*" for number in numbers)


def rules(group: str, *, cluster: bool = False, newer: bool = False) -> str:
    """The keys and the commands, and nothing else: no other key, no channel, no administration."""
    commands = COMMANDS + (NEWER if newer else ())
    return " ".join((*keys(group, cluster=cluster), *(f"+{one}" for one in commands)))

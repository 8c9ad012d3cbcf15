"""The environment of a replay run by the console: the group's handler, and no secret that it does not need."""

from unlost.ops.console.replays import environment_of

OUTER = {
    "PATH": "/bin", "UNLOST_TOKEN": "t", "UNLOST_TOKEN_FILE": "/run/t", "WS_AUTHORIZATION": "Bearer x",
    "WS_URL": "ws://u:p@feed/", "DATABASE_URL": "postgresql://old/", "SHOP_API_KEY": "the user's own",
}  # fmt: skip
TOLD = {"DATABASE_URL": "postgresql://u:p@db/", "GROUP": "unlost"}


def test_it_has_what_it_needs_and_no_other_secret() -> None:
    assert environment_of(OUTER, TOLD, None) == {
        "PATH": "/bin", "DATABASE_URL": "postgresql://u:p@db/", "GROUP": "unlost", "SHOP_API_KEY": "the user's own",
    }  # fmt: skip


def test_it_has_the_handler_of_the_listeners_unless_the_console_has_one() -> None:
    theirs = environment_of({}, TOLD, "shop:handle@7")
    assert (theirs["HANDLER"], theirs["HANDLER_VERSION"]) == ("shop:handle", "7")
    assert environment_of({}, TOLD | {"HANDLER": "shop:own"}, "shop:handle@7")["HANDLER"] == "shop:own"

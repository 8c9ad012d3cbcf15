"""A replay has its group's handler, or is refused with one clear sentence."""

import pytest

from unlost.dlq.replay.handler_check import refusal, wrong_group

SHOP, OTHER = "shop:handle", "shop:other"


@pytest.mark.parametrize(
    ("mine", "live", "letters"),
    [
        (SHOP, [("a", SHOP)], [OTHER]),
        (None, [("a", None)], [SHOP]),
        (OTHER, [("a", SHOP), ("b", OTHER)], []),
        ("shop:handle@2", [], ["shop:handle@1", None]),
        (SHOP, [], [None]),
        (SHOP, [], []),
        (None, [], [None]),
    ],
)
def test_a_replay_with_the_groups_handler_is_allowed(
    mine: str | None, live: list[tuple[str, str | None]], letters: list[str | None]
) -> None:
    assert refusal(mine, live, letters) == ""


@pytest.mark.parametrize(
    ("mine", "live", "letters", "shown"),
    [
        (
            None, [("b", SHOP), ("a", "shop:handle@7")], [],
            ("listener a has the handler shop:handle@7, and this replay has no handler, so the events would be stored "
            "without being handled; set HANDLER=shop:handle HANDLER_VERSION=7, or insist with --without-handler"),
        ),
        (
            OTHER, [("a", SHOP)], [OTHER],
            ("listener a has the handler shop:handle, and this replay has the handler shop:other; set "
            "HANDLER=shop:handle, or insist with --other-handler"),
        ),
        (
            SHOP, [("a", None)], [],
            ("listener a has no handler, and this replay has the handler shop:handle; unset HANDLER, or insist with "
            "--other-handler"),
        ),
        (
            None, [], [SHOP],
            ("no listener is running, the letters name the handler shop:handle, and this replay has no handler, so the "
            "events would be stored without being handled; set HANDLER=shop:handle, or insist with --without-handler"),
        ),
        (
            None, [], [None, SHOP, None],
            ("no listener is running, the letters name the handler shop:handle, and this replay has no handler, so the "
            "events would be stored without being handled; set HANDLER=shop:handle, or insist with --without-handler"),
        ),
        (
            SHOP, [], [SHOP, OTHER],
            ("no listener is running, the letters name the handler shop:other, and this replay has the handler "
            "shop:handle; set HANDLER=shop:other, or insist with --other-handler"),
        ),
        ("shop:handle@8", [("a", "shop:handle@7")], [],
         ("listener a has the handler shop:handle@7, and this replay has the handler shop:handle@8; set "
         "HANDLER=shop:handle HANDLER_VERSION=7, or insist with --other-handler")),
    ],
)  # fmt: skip
def test_a_replay_without_its_groups_handler_is_refused(
    mine: str | None, live: list[tuple[str, str | None]], letters: list[str | None], shown: str
) -> None:
    assert refusal(mine, live, letters) == shown


def test_letters_are_replayed_in_their_own_group() -> None:
    assert wrong_group("unlost", []) == wrong_group("unlost", [None, "unlost"]) == ""
    assert wrong_group("unlost", ["unlost", "EU"]).endswith("set GROUP=EU")

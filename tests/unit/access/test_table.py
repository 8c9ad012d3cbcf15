"""The file of tokens: what it keeps, what it refuses, and how a token finds its identity."""

import pytest

from unlost.ops.kit.access.identity import Identity
from unlost.ops.kit.access.table import (
    MOST_TOKENS,
    TokenEntry,
    WrongTokens,
    digest_of,
    new_token,
    read_entries,
    table_of,
    written,
)
from unlost.ops.kit.telemetry.mask import masked

TOKEN = "unlost_" + "T0ken-of_a-test" * 2 + "1234567890abc"
DIGEST = digest_of(TOKEN)
GOOD = TokenEntry("shop", ("publish", "read"), DIGEST, groups=("eu",))


def test_a_token_finds_its_identity_and_the_file_does_not_hold_it():
    content = written([GOOD])
    assert TOKEN.encode() not in content
    table = table_of(read_entries(b"# a comment\n\n" + content))
    assert table.of_token(TOKEN) == Identity("shop", frozenset({"publish", "read"}), frozenset({"eu"}))
    for wrong in (new_token(), "", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), f"{TOKEN}\n", f" {TOKEN}", DIGEST):
        assert table.of_token(wrong) is None


def test_a_token_is_masked_wherever_it_stands():
    assert masked(f"Bearer {TOKEN}: refused, see {TOKEN}.") == "Bearer ***: refused, see ***."
    assert masked("unlost_producer_journal_damaged_entries") == "unlost_producer_journal_damaged_entries"


def test_no_token_is_known_by_an_empty_digest():
    table = table_of([TokenEntry("machine", ("read",), subject="CN=a")])
    assert table.of_token(new_token()) is None
    assert table.of_subject("CN=a") == Identity("machine", frozenset({"read"}))
    assert table.of_subject("") is None


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"nonsense", "line 1"),
        (b"[]", "line 1"),
        (b'{"name":"a"}', "rights"),
        (b'{"name":"a","rights":[],"sha256":"%s"}' % DIGEST.encode(), "line 1"),
        (b'{"name":"a","rights":["everything"],"sha256":"%s"}' % DIGEST.encode(), "everything"),
        (b'{"name":"a","rights":["read"]}', "neither sha256 nor subject"),
        (b'{"name":"a","rights":["read"],"sha256":"abc"}', "sha256"),
        (b'{"name":"a b","rights":["read"],"sha256":"%s"}' % DIGEST.encode(), "name"),
        (b'{"name":"a","rights":["read"],"sha256":"%s","admin":true}' % DIGEST.encode(), "admin"),
        (b"\xff\xfe", "line 1"),
        (b"[" * 100_000, "line 1"),
    ],
)
def test_a_wrong_line_is_refused_with_its_number(line: bytes, shown: str):
    with pytest.raises(WrongTokens, match=shown):
        read_entries(line)


@pytest.mark.parametrize(
    "other",
    [
        TokenEntry("shop", ("read",), digest_of(new_token())),
        TokenEntry("b", ("read",), DIGEST),
    ],
)
def test_a_name_and_a_digest_stand_there_once(other: TokenEntry):
    with pytest.raises(WrongTokens, match="occurs twice"):
        table_of([GOOD, other])


def test_rights_of_a_person_do_not_reach_from_one_group_into_another():
    table = table_of([
        TokenEntry("us", ("operate",), subject="group:us-oncall", groups=("us",)),
        TokenEntry("all", ("read",), subject="group:watchers"),
    ])  # fmt: skip
    groups = ["us-oncall", "watchers", "unknown"]
    assert table.of_person("eva", groups, within="us").rights == {"operate", "read"}
    assert table.of_person("eva", groups, within="eu").rights == {"read"}
    assert not table.of_person("eva", ["us-oncall"], within="eu").may("read")
    assert table.of_subject("group:us-oncall") is None, "no certificate is a group"


def test_the_number_of_tokens_has_a_bound():
    with pytest.raises(WrongTokens, match="at most"):
        read_entries(written([GOOD]) * (MOST_TOKENS + 1))


@pytest.mark.parametrize(
    ("rights", "groups", "may"),
    [
        (("read",), (), False), (("read",), ("eu",), True), (("read",), ("us",), False), (("operate",), (), True),
        (("operate",), ("us",), False), (("admin",), (), True),
    ],
)  # fmt: skip
def test_only_an_identity_of_the_group_or_an_operator_reports_what_it_has_read(rights, groups, may):
    assert Identity("a", frozenset(rights), frozenset(groups)).may_report("eu") is may

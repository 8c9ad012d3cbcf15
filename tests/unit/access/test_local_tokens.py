"""The tokens of ``unlost up``: the user's stays, unless it was revoked, and what the user added stays too."""

from pathlib import Path

from unlost.ops.kit.access.table import TokenEntry, digest_of
from unlost.ops.kit.access.token_file import load_entries, load_table, save_entries
from unlost.ops.system.tokens import local_tokens


def test_the_users_token_stays_and_those_of_processes_are_new(tmp_path: Path):
    first = local_tokens(tmp_path, "unlost")
    save_entries(first.file, [*load_entries(first.file), TokenEntry("mine", ("publish",), digest_of("x"))])
    second = local_tokens(tmp_path, "unlost")
    assert second.user == first.user
    assert second.listener != first.listener
    table = load_table(second.file)
    assert table.of_token(first.listener) is None
    assert "mine" in {one.name for one in load_entries(second.file)}


def test_a_revoked_token_of_the_user_stays_revoked_and_is_replaced(tmp_path: Path):
    first = local_tokens(tmp_path, "unlost")
    save_entries(first.file, [one for one in load_entries(first.file) if one.name != "up"])
    second = local_tokens(tmp_path, "unlost")
    assert second.user != first.user
    table = load_table(second.file)
    assert table.of_token(first.user) is None
    assert table.of_token(second.user).may("admin")
    assert second.header_file.read_text() == f"authorization: Bearer {second.user}\n"

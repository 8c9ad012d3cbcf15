"""The tree is the architecture: no folder of the package imports, by any way, one that imports it."""

import re
from collections import defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

from unlost.producer.journal.postgres.statements import SCHEMA as SHARED_JOURNAL
from unlost.producer.journal.sqlite.statements import SCHEMA as JOURNAL_FILE

FOLDERS = ("listener", "producer", "dlq", "ops")
WITH_SQL = (
    "listener/store/postgres", "listener/claims/postgres", "producer/journal/postgres", "producer/journal/sqlite",
)  # fmt: skip
MADE = re.compile(
    r"create (?:unlogged )?table (?:if not exists )?(?:(?:unlost|producer_journal)\.)?(\w+)", re.IGNORECASE
)


def folder_of(module: str) -> str:
    """A package is its own folder, a module lies in its parent."""
    parts = module.split(".")
    return module if Path(*parts).is_dir() else ".".join(parts[:-1])


def test_no_folders_import_each_other_at_any_depth() -> None:
    graph = grimp.build_graph("unlost")
    imports = defaultdict[str, set[str]](set)
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            if folder_of(module) != folder_of(imported):
                imports[folder_of(module)].add(folder_of(imported))
    assert len(imports) > 20
    assert {name.split(".")[1] for name in imports if "." in name} == set(FOLDERS)
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the cycle


def tables() -> set[str]:
    """The tables that the migrations of PostgreSQL and the journals make."""
    migrations = Path("listener/store/postgres/migrations").glob("*.sql")
    schemas = (JOURNAL_FILE, SHARED_JOURNAL, *(one.read_text() for one in migrations))
    return {name for text in schemas for name in MADE.findall(text)}


def sql_in(text: str) -> Iterator[str]:
    """Parts of the text that are SQL on one of our tables, however it is written."""
    ours = rf"(?:\"?(?:unlost\w*|producer_journal)\"?\.)?\"?(?:{'|'.join(sorted(tables()))})\b"
    shapes = (
        rf"\bselect\b[^;]{{1,300}}\b(?:from|join)\s+{ours}",
        rf"\b(?:insert\s+into|delete\s+from|truncate(?:\s+table)?|lock\s+table|analyze|like)\s+{ours}",
        rf"\bupdate\s+{ours}\s+set\b",
        rf"\b(?:unlost|producer_journal)\.(?:{'|'.join(sorted(tables()))})\b",
    )
    for shape in shapes:
        yield from (found.group() for found in re.finditer(shape, text, re.IGNORECASE | re.DOTALL))


def test_sql_on_our_tables_stands_in_the_folders_of_their_adapters() -> None:
    assert {"events", "buried", "claims", "cursors", "listeners", "entries", "groups", "timelines", "head"} <= tables()
    files = [
        path for folder in FOLDERS for kind in ("py", "sql", "js") for path in sorted(Path(folder).rglob(f"*.{kind}"))
    ]
    assert len(files) > 200
    outside = [path for path in files if not str(path).startswith(WITH_SQL)]
    assert {str(path): found for path in outside if (found := [*sql_in(path.read_text())])} == {}


def test_sql_is_known_by_its_form() -> None:
    for text in ("SELECT count(*)\nFROM events", 'delete from "unlost_EU".events', "update groups set at = 1",
                 "select newest from producer_journal.head"):  # fmt: skip
        assert [*sql_in(text)], text
    for text in ("from unlost.listener.core import event", "events selected from groups", "insert into drill_effects"):
        assert not [*sql_in(text)], text


def test_the_reader_and_the_stages_name_no_library_of_a_source() -> None:
    graph = grimp.build_graph("unlost", include_external_packages=True)
    folders = ("unlost.listener.ports", "unlost.listener.pipeline", "unlost.listener.core")
    modules = [one for one in graph.modules if one.startswith(folders)]
    modules += ["unlost.listener.source.reader", "unlost.listener.source.committer"]
    libraries = {"websockets", "nats", "aiokafka", "aiormq", "pamqp", "socketio", "httpx"}
    assert len(modules) > 40
    for module in modules:
        assert not libraries & graph.find_modules_directly_imported_by(module), module

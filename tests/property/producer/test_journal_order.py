"""Any events in any batches: each accepted event is read back once, in order."""

import hashlib
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from unlost.producer.journal.publications import Publication
from unlost.producer.journal.sqlite.adapter import SqliteJournal

PUBLICATION = st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("12"), st.booleans())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(PUBLICATION, max_size=8), max_size=8))
def test_reads_back_each_accepted_event_once_in_order(batches: list[list[tuple[str, str, bool]]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        journal = SqliteJournal(Path(directory) / "journal")
        content: dict[str, str] = {}
        expected = []
        for batch in batches:
            made = [
                Publication(i, hashlib.sha256(p.encode()).digest(), f'{{"event_id":"{i}","payload":{p}}}'.encode(), r)
                for i, p, r in batch
            ]
            shown = []
            for event_id, payload, redeliver in batch:
                if event_id not in content:
                    shown.append("accepted")
                    content[event_id] = payload
                elif content[event_id] != payload:
                    shown.append("conflict")
                else:
                    shown.append("redelivered" if redeliver else "duplicate")
                if shown[-1] in ("accepted", "redelivered"):
                    expected.append((event_id, payload))
            assert [placed.status for placed in journal.append([made], 1.0).placed] == shown
        read = [(entry.event_id, entry.body.decode()[-2]) for entry in journal.read(0, 1_000)]
        assert read == expected
        journal.close()

"""The console's reports and actions, used like a program would, on a real system."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.end_to_end.console.conftest import CARD, OWN, Stage, until
from unlost.dlq.record.query import Selection
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.letter_store import TableLetters


def outcome(stage: Stage, event_id: str) -> str:
    return stage.client.get(f"/api/events/{event_id}").json()["sentence"]


def words_of(story: dict[str, Any]) -> list[str]:
    return [one["what"] for one in story["steps"]]


def test_the_overview_shows_everybody_and_a_verdict(stage: Stage):
    stage.publish("order", 3)
    shown = until(
        lambda: (o := stage.get("/api/overview"))["behind"] == 0 and o["picture"]["database"]["rows"] >= 3 and o
    )
    picture = shown["picture"]
    assert [one["name"] for one in picture["listeners"]] == ["a", "b"]
    assert all(one["ready"] and not one["degraded"] and not one["error"] for one in picture["listeners"])
    assert picture["producer"]["clients"] == 2
    (letters,) = picture["letter_files"]
    assert (letters["path"], letters["fleet"], letters["error"]) == ("the fleet's list", True, "")
    assert shown["verdict"]["sentence"]


def test_an_event_that_is_stored_has_a_whole_story(stage: Stage):
    (event_id,) = stage.publish("order", total=3)
    story = until(lambda: "stored" in words_of(o := stage.get(f"/api/events/{event_id}")) and o["row"] and o)
    assert story["sentence"].startswith("Stored by ")
    assert story["row"]["payload"] == {"card": "***", "total": 3}
    assert story["away"] == {}
    words = words_of(story)
    assert words[0] == "accepted"
    assert {"claimed", "stored", "row"} <= set(words)
    assert [one["at"] for one in story["steps"]] == sorted(one["at"] for one in story["steps"])
    assert event_id in [one["event_id"] for one in stage.get("/api/events", limit=20)["events"]]


def test_an_unknown_event_is_said_to_be_unknown(stage: Stage):
    answer = stage.client.get("/api/events/never, seen")
    assert answer.status_code == 404
    assert answer.json()["sentence"].startswith("Nobody knows an event 'never, seen'")


def test_rows_are_paged(stage: Stage):
    stage.publish("order", 4)
    until(lambda: len(stage.get("/api/events", limit=4)["events"]) == 4)
    first = stage.get("/api/events", limit=2)
    second = stage.get("/api/events", limit=2, before=first["next"])
    seqs = [one["seq"] for one in (*first["events"], *second["events"])]
    assert seqs == sorted(seqs, reverse=True)
    assert len(set(seqs)) == 4
    assert stage.client.get("/api/events", params={"limit": 0}).status_code == 400


def test_masked_fields_are_nowhere_in_what_is_shown(stage: Stage):
    (event_id,) = stage.buried("refused", total=5)
    letter = stage.letter_of(event_id)
    assert letter["message"] == "card *** has no cover"
    paths = [
        "/api/letters/groups", "/api/letters", f"/api/letters/{letter['letter_id']}", f"/api/events/{event_id}",
        f"/api/follow?ids={event_id}", "/api/events", "/api/overview",
    ]  # fmt: skip
    for path in paths:
        assert CARD not in stage.client.get(path).text, path
    assert stage.get(f"/api/letters/{letter['letter_id']}")["event"]["payload"] == {"card": "***", "total": 5}
    assert CARD in "".join(path.read_text() for path in stage.files if path.exists())
    for url in stage.system.layout.listener_urls:
        for path in ("/api/events", f"/api/events/{event_id}", f"/api/outcomes?ids={event_id}", "/health"):
            answer = stage.client.get(f"{url}{path}")
            assert answer.status_code in (200, 404)
            assert CARD not in answer.text, (url, path)
    logs = "".join(path.read_text() for path in stage.system.layout.data.rglob("*.log"))
    assert event_id in logs
    assert CARD not in logs


def test_an_identity_that_may_read_payloads_sees_them(stage: Stage):
    (event_id,) = stage.buried("refused", total=6)
    (stored,) = stage.publish("order")
    letter = f"/api/letters/{stage.letter_of(event_id)['letter_id']}"
    auditor = {"authorization": f"Bearer {stage.token('auditor', 'read', 'read:payload')}"}
    assert stage.client.get(letter, headers=auditor).json()["message"] == f"card {CARD} has no cover"
    until(lambda: CARD in stage.client.get(f"/api/events/{stored}", headers=auditor).text)
    assert CARD in stage.client.get("/api/events", headers=auditor).text
    assert CARD not in stage.client.get(f"/api/events/{stored}").text, "an administrator has no right to payloads"
    (url, *_) = stage.system.layout.listener_urls
    until(lambda: CARD in stage.client.get(f"{url}/api/events", headers=auditor).text)


def test_the_story_of_a_dead_letter_says_what_to_do(stage: Stage):
    (event_id,) = stage.buried("refused")
    story = stage.get(f"/api/events/{event_id}")
    assert "Fix the cause and replay it" in story["sentence"]
    assert {"accepted", "attempt failed", "dead letter"} <= {one["what"] for one in story["steps"]}
    shown = until(lambda: (o := stage.get("/api/overview")["verdict"])["level"] == "warn" and o)
    assert any("wait" in one["what"] for one in shown["problems"])


REFUSED: list[tuple[dict[str, str], int]] = [
    ({"origin": "http://evil.example"}, 403),
    ({"sec-fetch-site": "cross-site"}, 403),
    ({"x-unlost-console": ""}, 403),
    ({"host": "evil.example"}, 421),
    ({"authorization": ""}, 401),
    ({"authorization": "Bearer wrong"}, 401),
]


@pytest.mark.parametrize("path", ["/api/replays", "/api/letters/archive", "/api/letters/restore", "/api/publish"])
@pytest.mark.parametrize(("headers", "status"), REFUSED)
def test_nothing_is_changed_for_another_site_or_without_the_token(
    stage: Stage, path: str, headers: dict[str, str], status: int
):
    body = {"everything": True, "why": "because", "event_id": "from-another-site", "payload": 1}
    answer = stage.client.post(path, json=body, headers=OWN | headers)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]


def test_after_all_refusals_nothing_was_published_or_archived(stage: Stage):
    (event_id,) = stage.buried("refused")
    body = {"everything": True, "why": "because", "event_id": "from-another-site", "payload": 1}
    for headers, _ in REFUSED:
        stage.client.post("/api/publish", json=body, headers=OWN | headers)
        stage.client.post("/api/letters/archive", json={"everything": True, "why": "x"}, headers=OWN | headers)
    assert stage.client.get("/api/events/from-another-site").status_code == 404
    assert stage.letter_of(event_id)["state"]["status"] == "open"


def test_letters_are_grouped_archived_with_a_reason_and_restored(stage: Stage):
    ids = stage.buried("refused", 2)
    letter = stage.letter_of(ids[0])
    group = next(o for o in stage.get("/api/letters/groups")["groups"] if o["fingerprint"] == letter["fingerprint"])
    assert group["letters"] >= 2
    assert group["first_at"] <= group["last_at"]
    listed = [one["last_at"] for one in stage.get("/api/letters")["letters"]]
    assert listed == sorted(listed, reverse=True)
    refused = stage.client.post("/api/letters/archive", json={"ids": [letter["letter_id"]], "why": " "}, headers=OWN)
    assert refused.status_code == 400
    assert stage.post("/api/letters/archive", ids=[letter["letter_id"]], why="a test order") == {"archived": 1}
    archived = stage.letter_of(ids[0])["state"]
    assert (archived["status"], archived["detail"]) == ("archived", "a test order")
    assert archived["by"] == "up (console)"
    assert stage.letter_of(ids[1])["state"]["status"] == "open"
    assert stage.post("/api/letters/restore", ids=[letter["letter_id"]]) == {"restored": 1}
    restored, archived = stage.get("/api/trail")["trail"][:2]
    assert (restored["what"], restored["who"], restored["result"]) == ("restored", "up (console)", "1 letter")
    assert (archived["what"], archived["why"]) == ("archived", "a test order")
    assert letter["letter_id"] in archived["about"]
    assert archived["origin"] == "console, from 127.0.0.1"
    assert stage.letter_of(ids[0])["state"]["status"] == "open"


@pytest.mark.parametrize(
    "body",
    [{}, {"ids": []}, {"ids": [""]}, {"ids": ["01"]}, {"nonsense": 1}, {"ids": 5}, {"everything": True, "rate": -1}],
)
def test_a_replay_of_nothing_said_is_refused(stage: Stage, body: dict[str, Any]):
    assert stage.client.post("/api/replays", json=body, headers=OWN).status_code == 400


def test_a_replay_of_a_strange_file_is_refused(stage: Stage, tmp_path: Path):
    answer = stage.client.post("/api/replays", json={"everything": True, "file": str(tmp_path)}, headers=OWN)
    assert answer.status_code == 404


def test_one_letter_is_replayed_when_its_cause_is_mended(stage: Stage, tmp_path: Path):
    repaired = tmp_path / "repaired"
    (event_id,) = stage.buried("broken", file=str(repaired))
    letter = stage.letter_of(event_id)
    plan = stage.post("/api/replays", ids=[letter["letter_id"]], dry_run=True)
    assert plan["letters"] == 1
    assert plan["plans"][0]["by_reason"] == {"exhausted": 1}
    again = stage.ended(stage.post("/api/replays", ids=[letter["letter_id"]])["replay_id"])
    assert (again["state"], again["failed"]) == ("failed", 1)
    repaired.touch()
    done = stage.ended(stage.post("/api/replays", ids=[letter["letter_id"]], file=letter["file"])["replay_id"])
    assert (done["state"], done["resolved"], done["total"]) == ("done", 1, 1)
    assert outcome(stage, event_id).startswith("Stored by console ")
    state = stage.letter_of(event_id)["state"]
    assert (state["status"], state["by"], done["by"]) == ("resolved", "up (console)", "up (console)")
    ended = stage.get("/api/trail")["trail"][0]
    assert (ended["what"], ended["who"], ended["origin"]) == ("replayed", "up (console)", "dlq replay")
    assert ended["result"] == "1 resolved, 0 failed"


def test_a_group_is_replayed_with_progress_and_can_be_cancelled(stage: Stage, tmp_path: Path):
    repaired = tmp_path / "repaired"
    ids = stage.buried("broken", 8, file=str(repaired))
    repaired.touch()
    fingerprint = stage.letter_of(ids[0])["fingerprint"]
    asked = stage.post("/api/replays", fingerprint=fingerprint, rate=4)
    busy = stage.client.post("/api/replays", json={"everything": True}, headers=OWN)
    assert (busy.status_code, "retry-after" in busy.headers) == (429, True)
    assert "runs a replay already, which is its limit" in busy.json()["error"]
    seen = until(lambda: next((o for o in stage.replays(asked["replay_id"]) if o["done"]), None))
    assert seen["state"] == "running"
    stage.post(f"/api/replays/{asked['replay_id']}/cancel")
    ended = stage.ended(asked["replay_id"])
    assert ended["state"] == "cancelled"
    assert 0 < ended["done"] < ended["total"]
    rest = stage.ended(stage.post("/api/replays", fingerprint=fingerprint)["replay_id"])
    assert rest["state"] == "done"
    assert ended["resolved"] + rest["resolved"] == ended["total"]


def test_a_replay_that_somebody_else_runs_is_not_run_twice(stage: Stage, tmp_path: Path):
    (event_id,) = stage.buried("refused")
    letter = stage.letter_of(event_id)

    async def meanwhile() -> dict[str, Any]:
        database = Database(stage.system.database_url)
        mine = TableLetters(database).replaying(Selection(ids=(letter["letter_id"],)), 0, "a colleague")
        async with mine as taking:
            assert len(await taking.take(1)) == 1
            asked = await asyncio.to_thread(stage.post, "/api/replays", ids=[letter["letter_id"]])
            ended = await asyncio.to_thread(stage.ended, asked["replay_id"])
        await database.close()
        return ended

    ended = asyncio.run(meanwhile())
    assert (ended["state"], ended["done"]) == ("failed", 0)
    assert "1 letter was left to another replay" in " ".join(ended["parts"][0]["said"])
    assert stage.letter_of(event_id)["state"]["status"] == "open"


def test_browsers_are_sent_from_listener_and_producer_to_the_console(stage: Stage):
    layout = stage.system.layout
    for url, view in ((layout.producer_url, "/#/send"), (layout.listener_urls[0], "/")):
        answer = httpx.get(f"{url}/", trust_env=False)
        assert (answer.status_code, answer.headers["location"]) == (307, stage.url + view)


def test_the_page_brings_all_of_its_own_under_a_strict_policy(stage: Stage):
    page = stage.client.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "<style" not in page.text
    assert page.text.count("<script") == page.text.count('<script type="module" src="/static/')
    for name in ("console.js", "console.css", "icon.svg"):
        assert stage.client.get(f"/static/{name}").status_code == 200
    assert stage.client.get("/static/../app.py").status_code == 404


def test_an_answer_is_json_also_where_it_is_a_mistake(stage: Stage):
    assert json.loads(stage.client.get("/api/letters/unknown").text)["error"].startswith("no dead-letter file holds")

"""The console as a person uses it, in a real browser on a real system."""

from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Page, expect

from tests.end_to_end.console.conftest import TOKEN, Stage, until
from tests.support.accessibility import Axe, axe
from tests.support.browser import browser, page

__all__ = ["axe", "browser", "page"]
Scheme = Literal["light", "dark"]


def give_token(page: Page, token: str) -> None:
    page.get_by_role("dialog", name="Token").get_by_label("Token").fill(token)
    page.get_by_role("button", name="Go on").click()


def open_view(page: Page, stage: Stage, view: str, *, with_token: bool = True) -> None:
    if with_token:
        page.add_init_script(f"sessionStorage.setItem('unlost-token', {TOKEN!r})")
    page.goto(f"{stage.url}/#/{view}")


def test_the_overview_says_how_everything_is(page: Page, stage: Stage):
    open_view(page, stage, "overview")
    expect(page.locator("#sentence")).not_to_have_text("Looking…")
    for name in ("a", "b"):
        card = page.locator("article", has=page.get_by_role("heading", name=name, exact=True))
        expect(card).to_contain_text("ready")
        expect(card).to_contain_text("in Redis")
    expect(page.get_by_role("link", name="Overview")).to_have_attribute("aria-current", "page")
    with page.expect_response("**/api/overview"):  # it refreshes by itself
        pass


def test_text_of_others_is_shown_as_text_that_cannot_turn_around_or_hide(page: Page, stage: Stage):
    open_view(page, stage, "overview")
    text = r"a\u202eb\u009b2J\u2066 é 漢 \u{1f468}\u200d\u{1f469}\n\tc"
    shown = page.evaluate(f"import('/static/dom.js').then(it => it.h('p', {{}}, \"{text}\").textContent)")
    signs = "import('/static/diff.js').then(it => it.changes(['{', 'a', 'b', '}'], ['{', 'b', 'c', '}']))"
    assert page.evaluate(signs) == [[" ", "{"], ["-", "a"], [" ", "b"], ["+", "c"], [" ", "}"]]
    assert shown == "a\\u202eb\\u009b2J\\u2066 é 漢 \U0001f468\u200d\U0001f469\n\tc"


def test_nobody_is_asked_while_the_page_is_hidden(page: Page, stage: Stage):
    open_view(page, stage, "overview")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    with page.expect_response("**/api/overview"):
        pass
    page.evaluate(
        "Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    page.wait_for_load_state("networkidle")
    asked.clear()
    page.wait_for_timeout(1500)  # longer than the time between two refreshes: nothing must happen
    assert asked == []
    with page.expect_response("**/api/overview"):
        page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")


def test_an_event_is_sent_watched_and_its_story_read_by_keyboard(page: Page, stage: Stage):
    open_view(page, stage, "send", with_token=False)
    give_token(page, "wrong")
    expect(page.get_by_role("dialog")).to_contain_text("not the right one")
    give_token(page, TOKEN)
    expect(page.locator("#sentence")).not_to_have_text("Looking…")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.get_by_role("button", name="Send event").press("Enter")
    row = page.locator("table.sent tbody tr").first
    expect(row).to_contain_text("stored")
    page.get_by_role("button", name="Send the last one again").press("Enter")
    expect(page.locator("table.sent tbody tr").first).to_contain_text("duplicate")
    page.get_by_role("button", name="Send a malformed one").press("Enter")
    expect(page.locator("table.sent tbody tr").first).to_contain_text("refused")
    page.get_by_role("button", name="Send one that cannot be stored").press("Enter")
    expect(page.locator("table.sent tbody tr").first).to_contain_text("dead")
    page.get_by_label("Burst of").fill("40")
    page.get_by_role("button", name="Send burst").press("Enter")
    stored = page.locator("dl.figures div", has=page.get_by_text("stored", exact=True)).locator("dd")
    expect(stored).to_have_text("41")
    event_id = page.locator("table.sent tbody tr").first.locator("a").inner_text()
    page.get_by_role("link", name=event_id).press("Enter")
    expect(page.locator(".lead")).to_contain_text("Stored by ")
    expect(page.locator("ol.story")).to_contain_text("accepted")
    page.get_by_role("main").press("Escape")
    expect(page.get_by_role("heading", name="Lately stored")).to_be_visible()
    page.get_by_label("Find an event by its id").fill(event_id)
    page.keyboard.press("Enter")
    expect(page.locator("h2#story")).to_have_text(event_id)


def test_a_group_is_read_planned_replayed_and_one_letter_archived(page: Page, stage: Stage, tmp_path: Path):
    repaired = tmp_path / "repaired"
    ids = stage.buried("broken", 3, file=str(repaired))
    open_view(page, stage, "letters")
    page.get_by_role("link", name="exhausted: RuntimeError").click()
    expect(page.locator(".lead")).to_contain_text("the stock service is away")
    page.get_by_role("link", name=ids[0], exact=True).click()
    expect(page.locator("ol.story li")).to_have_count(2)
    expect(page.locator("pre:not(.traceback)")).to_contain_text('"card": "***"')
    page.get_by_role("button", name="Archive…").click()
    page.get_by_label("Why").fill("a test order")
    page.get_by_role("dialog").get_by_role("button", name="Archive").click()
    expect(page.get_by_role("alert")).to_have_text("1 archived")
    expect(page.get_by_role("main")).to_contain_text("a test order")
    page.get_by_role("main").press("Escape")
    page.get_by_role("link", name="exhausted: RuntimeError").click()
    page.get_by_role("button", name="Replay…").click()
    page.get_by_role("button", name="Dry run").click()
    expect(page.get_by_role("dialog")).to_contain_text("It would replay 2 (2 exhausted) and pass over")
    page.get_by_role("button", name="Shadow run").click()
    shadow = page.locator("article.replay", has_text="shadow run of group").first
    expect(shadow).to_contain_text("so a shadow replay cannot undo it")
    repaired.touch()
    page.get_by_role("button", name="Replay…").click()
    page.get_by_role("button", name="Start replay").click()
    replay = page.locator("article.replay").first
    expect(replay).to_contain_text("2 of 2: 2 resolved")
    expect(replay).to_contain_text("done")
    page.get_by_role("link", name=ids[0], exact=True).click()
    page.get_by_role("button", name="Restore").click()
    expect(page.get_by_role("alert")).to_have_text("1 restored")


def test_letters_are_found_by_filters_that_a_bookmark_keeps_and_changed_together(page: Page, stage: Stage):
    ids = stage.buried("refused", 2, order={"id": 8812}, note="<img src=x onerror=alert(1)>")
    open_view(page, stage, "letters")
    page.locator("details.filters summary").press("Enter")
    page.get_by_label("Payload has").fill("order.id=8812")
    page.get_by_label("Type", exact=True).fill("refused")
    page.get_by_role("button", name="Find").press("Enter")
    expect(page.get_by_role("heading", name="The latest 2 of 2 letters")).to_be_visible()
    assert "payload=order.id%3D8812" in page.url
    page.reload()
    expect(page.get_by_label("Payload has")).to_have_value("order.id=8812")
    expect(page.locator("table.letters")).to_contain_text(ids[0])
    page.get_by_role("button", name="Archive…").click()
    expect(page.get_by_role("dialog")).to_contain_text("It would archive 2 letters.")
    page.get_by_label("Why").fill("test orders")
    page.get_by_role("dialog").get_by_role("button", name="Archive").click()
    expect(page.get_by_role("alert")).to_have_text("2 archived")
    expect(page.locator("table.groups").last).to_contain_text("2 archived")
    page.get_by_role("link", name="rejected: Reject").click()
    expect(page.get_by_role("heading", name="2 letters that failed alike")).to_be_visible()
    page.get_by_role("button", name="Restore…").click()
    page.get_by_role("dialog").get_by_role("button", name="Restore").click()
    expect(page.get_by_role("alert")).to_have_text("2 restored")
    assert [one["state"]["status"] for event_id in ids for one in stage.letters_of(event_id)] == ["open", "open"]
    page.goto(f"{stage.url}/#/letters?text=card")
    expect(page.get_by_role("alert")).to_contain_text("masked (REDACT)")


def test_a_problem_leads_to_the_runbook_and_back(page: Page, stage: Stage):
    stage.buried("refused")
    open_view(page, stage, "overview")
    problem = page.locator(".problems li", has_text="dead letter")
    expect(problem).to_contain_text("rejected in handle (Reject)")
    expect(problem).to_contain_text("dlq groups")
    expect(page.locator("ol.lately")).to_contain_text("rejected, permanent")
    page.get_by_role("link", name="Runbook: UnlostLetter").press("Enter")
    expect(page.locator("section.runbook h3:focus")).to_contain_text("UnlostLetter")
    expect(page.locator("section.runbook pre").first).to_contain_text("unlost audit")
    expect(page.locator("section.runbook")).not_to_contain_text("**")
    page.keyboard.press("Escape")
    expect(page.get_by_role("heading", name="What is wrong")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_running_drill_is_shown_in_every_view_and_its_name_when_asked(page: Page, stage: Stage, scheme: Scheme):
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme=scheme)
    open_view(page, stage, "overview")
    reported = page.locator("#drill")
    expect(page.locator("#sentence")).not_to_have_text("Looking…")
    expect(reported).to_be_hidden()
    stage.post("/api/drill", drill="redis-frozen", state="running")
    expect(reported.locator("summary")).to_contain_text("A drill is running")
    stage.post("/api/drill", drill="redis-frozen", state="damaged")
    expect(reported.locator("summary")).to_contain_text("damages the system now")
    page.get_by_role("link", name="Events").click()
    expect(reported.get_by_text("redis-frozen")).to_be_hidden()
    reported.locator("summary").press("Enter")
    expect(reported.get_by_text("redis-frozen: does damage")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    stage.post("/api/drill", drill="redis-frozen", state="ended")
    expect(reported).to_be_hidden()


def test_a_replay_is_cancelled_by_its_button(page: Page, stage: Stage, tmp_path: Path):
    repaired = tmp_path / "repaired"
    stage.buried("broken", 6, file=str(repaired))
    repaired.touch()
    open_view(page, stage, "letters")
    page.get_by_role("button", name="Replay all that wait…").click()
    page.get_by_label("Rate").fill("2")
    page.get_by_role("button", name="Start replay").click()
    replay = page.locator("article.replay").first
    expect(replay).to_contain_text("running")
    replay.get_by_role("button", name="Cancel").click()
    expect(replay).to_contain_text("cancelled")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.timeout(330)  # npm may take 240 s of them to install
def test_every_view_fits_a_phone_and_is_accessible_in_light_and_dark(
    page: Page, stage: Stage, scheme: Scheme, axe: Axe
):
    (event_id,) = stage.buried("refused")
    letter = stage.letter_of(event_id)
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme=scheme)
    views = [
        "overview", "events", f"events/{event_id}", "send", "runbook", "letters", "waiting", "gaps", "effects", "trail",
        f"letters/group/{letter['fingerprint']}", f"letters/letter/{letter['letter_id']}",
    ]  # fmt: skip
    open_view(page, stage, "overview")
    for view in views:
        page.goto(f"{stage.url}/#/{view}")
        expect(page.get_by_role("main").locator("section:visible, dl:visible, table:visible").first).to_be_visible()
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, view
        assert axe.findings(page) == [], view
    page.goto(f"{stage.url}/#/history/1")
    expect(page.get_by_role("img", name="rejected: Reject").first).to_be_visible()
    expect(page.locator("table.history").first).to_contain_text("order")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert axe.findings(page) == []
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(f"{stage.url}/#/letters?type=refused")
    page.get_by_role("button", name="Replay…").press("Enter")
    assert axe.findings(page) == [], "a dialog over a wide page"
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 20, 27)"
    assert dark is (scheme == "dark")


def test_a_listener_is_paused_and_resumed_and_the_trail_says_who(page: Page, stage: Stage):
    open_view(page, stage, "waiting")
    page.get_by_role("button", name="Pause…").press("Enter")
    page.get_by_label("What").select_option("listener a")
    page.get_by_label("Why").fill("new <b>disk</b>")
    page.get_by_role("dialog").get_by_role("button", name="Pause").press("Enter")
    expect(page.locator(".problems")).to_contain_text("new <b>disk</b>")
    until(lambda: stage.get("/api/overview")["picture"]["listeners"][0]["pauses"])
    expect(page.locator("#sentence")).to_contain_text("The listener a is paused by")
    stage.publish("order")  # listener a waited for it when it was paused, and reads it
    until(lambda: "reading" in stage.get("/api/overview")["picture"]["listeners"][0]["since"])
    (event_id,) = stage.publish("order")
    assert until(lambda: stage.client.get(f"/api/events/{event_id}").json().get("row"))["instance_id"] == "b"
    page.get_by_role("button", name="Resume listener a").press("Enter")
    expect(page.get_by_text("Nothing is paused.")).to_be_visible()
    until(lambda: not stage.get("/api/overview")["picture"]["listeners"][0]["pauses"])
    assert [one["what"] for one in stage.get("/api/trail")["trail"][:2]] == ["resumed", "paused"]


def test_a_paused_route_with_a_long_name_fits_a_phone(page: Page, stage: Stage, tmp_path: Path):
    repaired = tmp_path / "repaired"
    stage.publish("broken", 24, file=str(repaired))
    until(lambda: any(one["routes_paused"] for one in stage.get("/api/overview")["picture"]["listeners"]))
    page.set_viewport_size({"width": 390, "height": 844})
    open_view(page, stage, "overview")
    expect(page.locator(".problems")).to_contain_text("tests.end_to_end.console.handlers:handle")
    width = page.evaluate("document.documentElement.scrollWidth")
    repaired.touch()
    until(lambda: not any(one["routes_paused"] for one in stage.get("/api/overview")["picture"]["listeners"]))
    assert width <= 390

"""What pages of others can do in the browser of somebody who may do something: nothing. In a real browser."""

import contextlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import msgspec
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.end_to_end.producer.conftest import RunningProducer
from tests.security.conftest import Tokens
from tests.support.browser import PATIENCE, chromium, page
from tests.support.consoles import RunningConsole, running_console, token_of
from tests.support.letters import letter, write
from tests.support.oidc import IdentityProvider, identity_provider
from unlost.dlq.record.trail import trail_beside

__all__ = ["page"]
pytestmark = pytest.mark.timeout(180)  # servers are started
EVIL, REBOUND = "evil.example", "rebound.example"
SCRIPT = "<img src=x onerror=\"hacked='yes'\"><script>hacked='yes'</script>"
EVENT_ID = f"\"'>{SCRIPT}&{{{{7*7}}}}"
NAME = "eva@bank.example (oidc 248289)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for which both foreign names lead to this machine."""
    with chromium(f"--host-resolver-rules=MAP {EVIL} 127.0.0.1,MAP {REBOUND} 127.0.0.1") as launched:
        yield launched


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    """Of another site than the console, as usual: a cookie that is Strict does not come back from there."""
    with identity_provider("localhost") as one:
        one.waits = True
        yield one


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory, provider: IdentityProvider) -> Iterator[RunningConsole]:
    directory = tmp_path_factory.mktemp("console")
    hostile = letter(EVENT_ID, message=f"no {SCRIPT}", error_type=SCRIPT, type=SCRIPT, payload={SCRIPT: [SCRIPT]})
    letters = write(directory / "letters.jsonl", [msgspec.structs.replace(hostile, letter_id="0123456789ab-1")])
    with running_console(directory, provider, LETTERS=str(letters)) as one:
        yield one


@pytest.fixture(scope="module")
def producer(tmp_path_factory: pytest.TempPathFactory, tokens: Tokens) -> Iterator[RunningProducer]:
    one = RunningProducer(tmp_path_factory.mktemp("journal") / "j.sqlite", {"TOKENS_FILE": str(tokens.file)})
    one.start()
    yield one
    one.end()


class _Blank(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<!doctype html><title>A page of somebody else</title>"
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[int]:
    """The port of a server with pages of somebody else."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Blank)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join(5)


@contextlib.contextmanager
def visiting(browser: Browser) -> Iterator[Page]:
    """A page whose errors are expected, and whose own server does not restrict it."""
    context = browser.new_context(bypass_csp=True)
    context.set_default_timeout(PATIENCE)
    yield context.new_page()
    context.close()


def sign_in(page: Page, console: RunningConsole, view: str = "letters") -> None:
    page.goto(f"{console.url}/#/{view}")
    dialog = page.get_by_role("dialog", name="Sign in")
    dialog.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="I am Eva").click()
    expect(page.locator("#person")).to_contain_text(f"Signed in as {NAME}.")


def cookies(context: BrowserContext) -> dict[str, Any]:
    return {one["name"]: one for one in context.cookies()}


def test_a_person_signs_in_at_another_site_returns_to_the_view_and_signs_out(page: Page, console: RunningConsole):
    sign_in(page, console, "letters")
    expect(page).to_have_url(f"{console.url}/#/letters")
    expect(page.get_by_role("link", name="Dead letters")).to_have_attribute("aria-current", "page")
    expect(page.locator("table.groups").first).to_contain_text("onerror")
    (session,) = cookies(page.context).values()
    assert (session["name"], session["httpOnly"], session["sameSite"]) == ("unlost", True, "Strict")
    assert page.evaluate("document.cookie") == ""
    page.reload()
    expect(page.locator("#person")).to_contain_text(NAME)
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("dialog", name="Sign in")).to_be_visible()
    assert cookies(page.context) == {}


def enter(page: Page, console: RunningConsole, how: str) -> None:
    if how == "oidc":
        sign_in(page, console)
        return
    token = token_of(console.tokens, f"browser-{how}", "read", "operate")
    bearer = {"authorization": f"Bearer {token}"}
    with console.browser() as client:
        while client.get("/api/overview", headers=bearer).status_code != 200:
            pass
    page.add_init_script(f"sessionStorage.setItem('unlost-token', {token!r})")


@pytest.mark.parametrize("how", ["token", "oidc"])
def test_hostile_content_is_shown_as_text(page: Page, console: RunningConsole, how: str):
    enter(page, console, how)
    page.goto(f"{console.url}/#/letters")
    page.locator("table.groups a").first.click()
    expect(page.locator("table.letters")).to_contain_text(EVENT_ID)
    page.locator("table.letters a").first.click()
    expect(page.get_by_role("main")).to_contain_text(f"no {SCRIPT}")
    quoted = SCRIPT.replace('"', '\\"')
    expect(page.locator("pre:not(.traceback)").first).to_contain_text(quoted)
    see_that_nothing_ran(page)
    for view in ("overview", "trail", "history", "events", "waiting"):
        page.goto(f"{console.url}/#/{view}")
        expect(page.locator("#sentence")).not_to_have_text("Looking…")
        see_that_nothing_ran(page)
    page.goto(f"{console.url}/#/events/{SCRIPT.replace('<', '%3C').replace(' ', '%20')}")
    expect(page.get_by_role("main")).to_contain_text("onerror")
    see_that_nothing_ran(page)


def see_that_nothing_ran(page: Page) -> None:
    assert page.evaluate("window.hacked") is None
    assert page.locator("main img, main script").count() == 0


def test_a_providers_hostile_answer_is_shown_as_text(page: Page, console: RunningConsole, provider: IdentityProvider):
    provider.refuses = {"error": SCRIPT, "error_description": SCRIPT}
    try:
        page.goto(f"{console.url}/signin")
        page.get_by_role("button", name="I am Eva").click()
        expect(page.get_by_role("alert")).to_contain_text("without a reason that can be shown")
        assert page.evaluate("window.hacked") is None
        page.get_by_role("link", name="Back to the console").click()
        expect(page.get_by_role("dialog", name="Sign in")).to_be_visible()
    finally:
        provider.refuses = {}


FORGED = """async ([url, body]) => {
  const tell = (path, options) => fetch(url + path, options).then(it => it.status, () => "refused");
  const post = {method: "POST", credentials: "include", body};
  return [
    await tell("/api/letters", {credentials: "include"}),
    await tell("/api/letters/archive", {...post, headers: {"x-unlost-console": "1"}}),
    await tell("/api/letters/archive", post),
    await tell("/api/letters/archive", {...post, mode: "no-cors"}),
    await tell("/api/signout", {...post, mode: "no-cors"}),
    await tell("/signin", {credentials: "include", mode: "no-cors"}),
  ];
}"""
FORM = """([url, body]) => {
  const form = document.createElement("form"), input = document.createElement("input");
  Object.assign(form, {method: "post", action: url, enctype: "text/plain"});
  Object.assign(input, {name: body.slice(0, -1) + ', "x": "', value: '"}'});
  form.append(input); document.body.append(form); form.submit();
}"""


@pytest.mark.parametrize("host", [EVIL, "127.0.0.1"], ids=["another site", "another port"])
def test_pages_of_others_change_nothing_and_read_nothing_in_the_session_of_a_person(
    browser: Browser, console: RunningConsole, elsewhere: int, host: str
):
    foreign = f"http://{host}:{elsewhere}/"
    with visiting(browser) as page:
        sign_in(page, console)
        (one,) = page.evaluate("fetch('/api/letters').then(it => it.json())")["letters"]
        before = of_foreign_pages(page.evaluate("fetch('/metrics').then(it => it.text())"))
        body = f'{{"everything": true, "file": "{one["file"]}", "why": "forged"}}'
        page.goto(foreign)
        assert page.evaluate(FORGED, [console.url, body])[:3] == ["refused"] * 3
        for path in ("/api/letters/archive", "/api/signout"):
            page.goto(foreign)
            with page.expect_navigation(url=f"{console.url}{path}") as answer:
                page.evaluate(FORM, [f"{console.url}{path}", body])
            assert answer.value is not None
            assert answer.value.status == 403
        page.goto(console.url)
        expect(page.locator("#person")).to_contain_text(NAME)
        (one,) = page.evaluate("fetch('/api/letters').then(it => it.json())")["letters"]
        assert of_foreign_pages(page.evaluate("fetch('/metrics').then(it => it.text())")) >= before + 6
    assert one["state"]["status"] == "open"
    assert not trail_beside(console.tokens.with_name("letters.jsonl")).exists()


def test_nobody_is_signed_in_as_somebody_else(browser: Browser, console: RunningConsole, provider: IdentityProvider):
    """A foreign page sends the browser back with an answer that belongs to the attacker."""
    with console.browser() as attacker, httpx.Client(trust_env=False, verify=False) as client:
        attacker.follow_redirects = False
        answer = client.get(f"{attacker.get('/signin').headers['location']}&sure=1").headers["location"]
    with visiting(browser) as page:
        sign_in(page, console)
        page.goto(answer)
        expect(page.get_by_role("alert")).to_contain_text("did not begin in this browser")
        page.get_by_role("link", name="Back to the console").click()
        expect(page.locator("#person")).to_contain_text(NAME)


def refused(producer: RunningProducer, tokens: Tokens) -> float:
    """How many requests of foreign pages a producer has refused."""
    return of_foreign_pages(producer.http.get("/metrics", headers=tokens.bearer("reader")).text)


def of_foreign_pages(metrics: str) -> float:
    found = re.search(r'unlost_refused_requests_total{reason="origin"} (.*)', metrics)
    assert found
    return float(found[1])


SOCKET = """([url, protocols]) => new Promise(resolve => {
  const socket = new WebSocket(url, protocols);
  socket.onopen = () => { resolve("open"); socket.close(); };
  socket.onerror = () => resolve("refused");
})"""


def test_a_rebound_name_reads_and_publishes_nothing_even_with_a_token(
    browser: Browser, producer: RunningProducer, console: RunningConsole, tokens: Tokens
):
    """To the browser, page and server are of one origin: only the server notices that the name is not its own."""
    ask = """([path, options]) => fetch(path, options).then(it => it.status, error => `${error}`)"""
    reader, shop = tokens.bearer("reader"), tokens.bearer("shop")
    event = {"method": "POST", "headers": shop, "body": '{"event_id": "rebound", "payload": {}}'}
    asked: list[tuple[str, list[tuple[str, dict[str, Any]]]]] = [
        (producer.url, [("/metrics", {"headers": reader}), ("/publish", event), ("/", {})]),
        (console.url, [("/api/letters", {}), ("/", {}), ("/static/api.js", {}), ("/signin", {})]),
    ]
    with visiting(browser) as page:
        sign_in(page, console)
        for url, requests in asked:
            origin = f"http://{REBOUND}:{url.rsplit(':')[-1].strip('/')}"
            page.goto(f"{origin}/attack")
            for path, options in requests:
                assert page.evaluate(ask, [path, options]) == 421, (url, path)
        port = producer.stream.rsplit(":")[-1].strip("/")
        protocols = ["unlost", f"unlost.bearer.{tokens.of['reader']}"]
        assert page.evaluate(SOCKET, [f"ws://{REBOUND}:{port}/", protocols]) == "refused"
    known = producer.http.get("/api/journal", params={"event_id": "rebound"}, headers=reader)
    assert known.text == ""


def test_pages_of_other_sites_open_no_websocket(
    browser: Browser, producer: RunningProducer, console: RunningConsole, elsewhere: int, tokens: Tokens
):
    protocols = ["unlost", f"unlost.bearer.{tokens.of['reader']}"]
    stream, at_console = producer.stream, re.sub("^http", "ws", console.url)
    before = refused(producer, tokens)
    with visiting(browser) as page:
        sign_in(page, console)
        for origin in (f"http://{EVIL}:{elsewhere}/", f"http://127.0.0.1:{elsewhere}/", f"{console.url}/"):
            page.goto(origin)
            assert page.evaluate(SOCKET, [stream, protocols]) == "refused", origin
            assert page.evaluate(SOCKET, [f"{at_console}/", []]) == "refused", origin
            assert page.evaluate(SOCKET, [f"{at_console}/api/overview", []]) == "refused", origin
        assert refused(producer, tokens) >= before + 2, "it was the server that refused"
        page.goto(re.sub("^ws", "http", stream))
        assert page.evaluate(SOCKET, [stream, protocols]) == "open", "its own page may"


def test_the_token_of_a_tab_is_not_in_a_cookie(page: Page, console: RunningConsole):
    enter(page, console, "tab")
    page.goto(f"{console.url}/#/letters")
    expect(page.locator("table.groups").first).to_contain_text("onerror")
    assert page.context.cookies() == []

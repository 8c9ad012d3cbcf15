"""``python -m tests.pictures``: run a system, and take the pictures of its console into ``docs/pictures``.

It takes about two minutes, and needs Debian's Chromium. Look at each picture before you commit it.
"""

import argparse
import asyncio
import re
import shutil
import sys
from pathlib import Path

from playwright.async_api import Page, ViewportSize, async_playwright, expect

from tests.pictures.scene import Scene, played
from tests.support.browser import FLAGS
from unlost.ops.faults.drills.marks import marks

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
WAIT = 60_000
"""Milliseconds."""
SPARKS = 20.0
"""Seconds. The small curves show two minutes, of which some must have passed."""
SEEN_FOR = 4.0
"""Seconds between a damage and its picture, so that rates show it too."""
WIDE = ViewportSize(width=1100, height=860)
PHONE = ViewportSize(width=390, height=844)


def main() -> int:
    """Take all pictures."""
    parser = argparse.ArgumentParser(prog="python -m tests.pictures", description="Take the pictures of the console.")
    parser.add_argument("--to", type=Path, default=PICTURES, help="directory of the pictures")
    arguments = parser.parse_args()
    program = shutil.which("chromium")
    if program is None:
        print("error: chromium is not on the PATH; install Debian's package of this name", file=sys.stderr)
        return 2
    expect.set_options(timeout=WAIT)
    with played() as scene:
        asyncio.run(_taken(program, scene, arguments.to))
    return 0


async def _taken(program: str, scene: Scene, to: Path) -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=FLAGS)
        page = await browser.new_page(viewport=WIDE)
        await page.add_init_script(f"sessionStorage.setItem('unlost-token', {scene.token!r})")
        await _overview(scene, page, to / "console-overview.png")
        await _letters(scene, page, to / "console-letters.png")
        await _event(scene, page, to / "console-event.png")
        await page.set_viewport_size(PHONE)
        await page.emulate_media(color_scheme="dark")
        await _phone(scene, page, to / "console-phone.png")
        await browser.close()


async def _overview(scene: Scene, page: Page, file: Path) -> None:
    """One listener is cut off from Redis by a drill."""
    await page.goto(f"{scene.console.url}/#/overview")
    with scene.load():
        await asyncio.sleep(SPARKS)
        async with marks("redis-cut-off", scene.console) as left:
            await left.put("damaged")
            await scene.wires.cut("a", "redis")
            await expect(page.locator("#sentence")).to_contain_text("does not reach Redis")
            await asyncio.sleep(SEEN_FOR)
            await page.screenshot(path=file, full_page=True)
            await scene.wires.repair("a", "redis")
            await expect(page.locator("#sentence")).to_contain_text("all right")


async def _letters(scene: Scene, page: Page, file: Path) -> None:
    """Some orders failed, their service is back, and a replay is under way."""
    with scene.load():
        scene.publish_failing()
        await asyncio.to_thread(scene.await_letters)
    scene.stock_is_back()
    await page.goto(f"{scene.console.url}/#/letters")
    await page.get_by_role("link", name="exhausted: ConnectionError").click()
    await page.get_by_role("link", name=scene.one_failed, exact=True).click()
    await _replay(page, "Replay…")
    await expect(page.locator("article.replay").first).to_contain_text("done")
    await page.get_by_role("main").press("Escape")
    await _replay(page, "Replay all that wait…", rate="2")
    await expect(page.locator("article.replay").first).to_contain_text(re.compile(r"(?<!\d)[4-9] of "))
    await page.screenshot(path=file)
    await expect(page.locator("article.replay").first).to_contain_text("done")


async def _replay(page: Page, button: str, rate: str = "0") -> None:
    await page.get_by_role("button", name=button).click()
    await page.get_by_label("Rate").fill(rate)
    await page.get_by_role("button", name="Start replay").click()


async def _event(scene: Scene, page: Page, file: Path) -> None:
    """The event that was replayed first."""
    await page.goto(f"{scene.console.url}/#/events/{scene.one_failed}")
    await expect(page.locator(".lead")).to_contain_text("Stored by")
    await page.mouse.move(0, 0)  # away from the tabs
    await page.screenshot(path=file)


async def _phone(scene: Scene, page: Page, file: Path) -> None:
    """A listener hangs."""
    await page.goto(f"{scene.console.url}/#/overview")
    with scene.load():
        scene.system.listeners[1].freeze()
        await expect(page.locator("#sentence")).to_contain_text("Listener b does not answer")
        await asyncio.sleep(SEEN_FOR)
        await page.screenshot(path=file)
        scene.system.listeners[1].thaw()


if __name__ == "__main__":
    sys.exit(main())

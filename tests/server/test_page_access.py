from collections.abc import Iterator

import pytest
from browser import chromium, needs_browser, opened, until, until_turn
from playwright.sync_api import Browser, Page
from served import Served, serving

from icebreaker.engine.scripted import ScriptedEngine
from icebreaker.server.page import STATIC

pytestmark = needs_browser

# Of every visible text: the contrast of its colour with what is behind it (WCAG 2.2, 1.4.3), if it is too low.
CONTRAST = """() => {
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const parse = (colour) => (colour.match(/[\\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
  const behind = (node) => {
    for (let each = node; each; each = each.parentElement) {
      const [r, g, b, a = 1] = parse(getComputedStyle(each).backgroundColor);
      if (a === 1) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const low = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const [text, node] = [walker.currentNode.data.trim(), walker.currentNode.parentElement];
    if (!text || !node.checkVisibility() || node.closest(".hidden, noscript, option")) continue;
    const style = getComputedStyle(node);
    const [light, dark] = [luminance(parse(style.color)), luminance(behind(node))].sort((a, b) => b - a);
    const ratio = (light + 0.05) / (dark + 0.05);
    const least = parseFloat(style.fontSize) >= 24 ? 3 : 4.5;
    if (ratio < least) low.push(`${ratio.toFixed(2)} ${node.className || node.id || node.tagName}: ${text}`);
  }
  return low;
}"""
# Everything that can be operated: its role, its name for assistive technology, and its size.
OPERABLE = """() => [...document.querySelectorAll("button, input, select, textarea, a[href], [tabindex='0']")]
  .filter((node) => node.checkVisibility())
  .map((node) => ({
    id: node.id || node.className,
    name: node.getAttribute("aria-label") || node.labels?.[0]?.innerText || node.innerText || "",
    width: node.getBoundingClientRect().width, height: node.getBoundingClientRect().height,
  }))"""


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(lambda: ScriptedEngine(lambda items, config: "A long answer, " * 20), static=STATIC) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


def make_everything_visible(page: Page) -> None:
    """An interrupted answer, a problem, the field for the key."""
    page.fill("#text", "hello")
    page.keyboard.press("Enter")
    until_turn(page, "speaking")
    page.wait_for_timeout(300)
    page.keyboard.press("Escape")
    page.wait_for_selector(".cut")
    page.evaluate("document.querySelector('#notice').hidden = document.querySelector('#key-form').hidden = false")
    page.evaluate("document.querySelector('#notice-text').innerHTML = '<strong>Title</strong> words <code>code</code>'")


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_every_text_stands_out(served: Served, browser: Browser, colours: str) -> None:
    with opened(browser, served.http, color_scheme=colours) as page:
        assert page.evaluate("document.documentElement.dataset.theme") == colours
        make_everything_visible(page)
        assert page.evaluate(CONTRAST) == []
        page.click("#open-settings")
        assert page.evaluate(CONTRAST) == []


def test_everything_has_a_name_and_is_large_enough_to_touch(served: Served, browser: Browser) -> None:
    with opened(browser, served.http, viewport={"width": 390, "height": 760}, has_touch=True) as page:
        make_everything_visible(page)
        found = page.evaluate(OPERABLE)
        assert len(found) > 12
        assert [each["id"] for each in found if not each["name"].strip()] == []
        small = [each for each in found if min(each["width"], each["height"]) < 24 and each["id"] != "skip"]
        assert small == [], "WCAG 2.2, 2.5.8"


def test_a_screen_reader_finds_its_way(served: Served, browser: Browser) -> None:
    with opened(browser, served.http) as page:
        assert page.get_attribute("html", "lang") == "en"
        assert page.locator("h1").count() == 1
        assert page.locator("main").count() == 1
        for name in ("Voice", "Conversation", "Transcript"):
            assert page.get_by_role("region", name=name, exact=True).count() == 1
        for name in ("You", "Icebreaker"):
            assert page.get_by_role("meter", name=name).get_attribute("aria-valuenow") == "0"
        assert page.get_attribute("#said", "aria-live") == "polite"
        assert page.get_attribute("#state", "role") == "status"
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map((node) => node.id)")
        assert len(ids) == len(set(ids))
        for kind in ("aria-labelledby", "aria-describedby"):
            for value in page.evaluate(
                f"[...document.querySelectorAll('[{kind}]')].map((n) => n.getAttribute('{kind}'))"
            ):
                assert set(value.split()) <= set(ids)


def test_what_is_spoken_is_not_read_out_on_top_of_itself(served: Served, browser: Browser) -> None:
    with opened(browser, served.http) as page:
        make_everything_visible(page)
        until(page, "Interrupted", "#said")
        assert "Icebreaker:" not in page.inner_text("#said")


def test_nothing_moves_for_those_who_asked_for_that(served: Served, browser: Browser) -> None:
    moving = "document.getAnimations().filter((each) => each.playState === 'running').length"
    with opened(browser, served.http, reduced_motion="no-preference") as page:
        page.click("#talk")
        until_turn(page, "listening")
        assert page.evaluate(moving) > 0
    with opened(browser, served.http, reduced_motion="reduce") as page:
        page.click("#talk")
        until_turn(page, "listening")
        assert page.evaluate(moving) == 0


@pytest.mark.parametrize("size", [(320, 568), (390, 760), (844, 390), (1200, 780)], ids=str)
def test_it_fits_every_screen(served: Served, browser: Browser, size: tuple[int, int]) -> None:
    width, height = size
    with opened(browser, served.http, viewport={"width": width, "height": height}) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for name in ("#talk", "#mute", "#interrupt", "#text", "#open-settings"):
            box = page.locator(name).bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width, name
            assert box["y"] + box["height"] <= height, name
        transcript = page.locator("#scroll").bounding_box()
        assert transcript is not None
        assert transcript["height"] >= 80, "room to read"

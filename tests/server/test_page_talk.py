import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from browser import chromium, microphone, needs_browser, opened, played, question, recording_page, until, until_turn
from playwright.sync_api import Browser, Page
from served import Served, serving

from icebreaker.audio.pcm import load_audio
from icebreaker.engine.messages import Item, SessionConfig
from icebreaker.engine.scripted import ScriptedEngine
from icebreaker.engine.scripted_answer import MS_PER_LETTER

pytestmark = needs_browser

ANSWER = "The capital of France is Paris and it lies on the river Seine in the north of the country. " + " ".join(
    f"Street number {number} is long and has many houses." for number in range(2, 9)
)  # some 25 s of sound: however slow the machine, it is interrupted in the middle


def script(items: Sequence[Item], config: SessionConfig) -> str:
    """A long answer to speech; to writing, the instructions and what the model remembers of its last answer."""
    if items[-1].audio_ms > 0:
        return ANSWER
    said = [item.text for item in items if item.role == "assistant" and item.text]
    return f"{config.instructions}: {said[-1] if said else 'nothing'}"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    static = recording_page(tmp_path_factory.mktemp("page") / "static")
    with serving(lambda: ScriptedEngine(script), static=static) as server:
        yield server


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Its microphone asks a question, and cuts in on the answer."""
    speech = load_audio(question("what-is-the-opposite-of-hot.flac"), 16_000)
    recording = tmp_path_factory.mktemp("microphone") / "ask.wav"
    with chromium(microphone(recording, (0.5, speech), (3.0, speech), (30, None))) as running:
        yield running


@pytest.fixture
def page(served: Served, browser: Browser) -> Iterator[Page]:
    with opened(browser, served.http, record=True) as page:
        yield page


def sent(page: Page) -> list[dict[str, Any]]:
    """Everything the page sends from now on, as it is sent."""
    events: list[dict[str, Any]] = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda frame: events.append(json.loads(frame))))
    return events


def of(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == kind]


def loud_ms(waveform: np.ndarray, rate: int) -> float:
    """How long the tone of the scripted engine is heard in all, in milliseconds."""
    blocks = waveform[: len(waveform) // 64 * 64].reshape(-1, 64)
    return 1000 * 64 / rate * int((np.abs(blocks).max(1) > 0.05).sum())


def cut_line(page: Page) -> tuple[str, str]:
    """The words of the interrupted answer: heard, and not heard."""
    page.wait_for_selector("li.assistant del.unheard")
    line = page.locator("li.assistant:has(del.unheard)").first
    lost = line.locator("del.unheard").text_content()
    whole = line.locator(".words").text_content() or ""
    return whole.removesuffix(lost or "").strip(), (lost or "").strip()


def test_a_question_is_asked_answered_and_the_answer_interrupted_by_voice(page: Page) -> None:
    events = sent(page)
    page.click("#talk")
    until_turn(page, "hearing")
    until_turn(page, "thinking", "speaking")
    until(page, "The capital of France", "#transcript")
    until_turn(page, "speaking")
    played(page)
    heard, unheard = cut_line(page)
    page.wait_for_timeout(400)
    waveform, rate = played(page)
    assert unheard
    assert ANSWER.startswith(f"{heard} {unheard}".strip())
    truncated = of(events, "conversation.item.truncate")
    heard_ms = truncated[-1]["audio_end_ms"]
    assert 100 < heard_ms < len(ANSWER) * MS_PER_LETTER
    assert ANSWER[: int(heard_ms / MS_PER_LETTER)].startswith(heard), "no more than what the server keeps"
    assert loud_ms(waveform, rate) < heard_ms + 100, "silence at once"
    assert re.search(r"Interrupted after \d\.\d s", page.inner_text("#transcript"))
    legend = page.locator("li.assistant .parts").first.inner_text()
    assert all(part in legend for part in ("turn taken", "first text", "first sound", "audible"))


def test_what_was_played_is_counted_to_the_millisecond(page: Page) -> None:
    events = sent(page)
    page.locator(".chip").first.click()
    until_turn(page, "speaking")
    page.wait_for_timeout(900)
    page.keyboard.press("Escape")
    page.wait_for_timeout(500)
    heard, _ = cut_line(page)
    waveform, rate = played(page)
    speech = load_audio(question("what-is-the-capital-of-france.flac"), rate)
    after = waveform[int(np.flatnonzero(np.abs(waveform) > 0.02)[0]) + len(speech) :]  # the question is heard as well
    (truncated,) = of(events, "conversation.item.truncate")
    kept = ANSWER[: int(truncated["audio_end_ms"] / MS_PER_LETTER)]
    assert kept.startswith(heard)
    assert len(kept) - len(heard) < 12, "all but the word in the middle"
    # What left the graph later than it was counted: the output's latency (30 ms here), and a fade of 5 ms.
    assert -20 < loud_ms(after, rate) - truncated["audio_end_ms"] < 80


def test_after_an_interruption_the_model_remembers_what_was_heard(page: Page) -> None:
    page.locator(".chip").first.click()
    until_turn(page, "speaking")
    page.wait_for_timeout(1200)
    page.click("#interrupt")
    heard, unheard = cut_line(page)
    assert heard
    assert unheard
    page.fill("#text", "What did you say last?")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelectorAll('li.assistant').length === 2")
    until(page, f": {heard}", "#transcript li:last-child")
    assert unheard not in page.inner_text("#transcript li:last-child")


def test_instructions_count_from_the_next_reply_and_are_kept(page: Page) -> None:
    page.click("#open-settings")
    page.fill("#instructions", "You are a lighthouse")
    page.select_option("#turns", "server_vad")
    page.click("text=Apply")
    page.fill("#text", "Who are you?")
    page.keyboard.press("Enter")
    until(page, "You are a lighthouse: nothing", "#transcript")
    page.reload()
    page.click("#open-settings")
    page.wait_for_selector("dialog[open]")
    assert page.input_value("#instructions") == "You are a lighthouse"
    assert page.input_value("#turns") == "server_vad"


def wait_for(page: Page, happened: Callable[[], bool], patience_ms: int = 10_000) -> None:
    for _ in range(patience_ms // 50):
        if happened():
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"nothing happened in {patience_ms} ms")


def test_a_muted_microphone_sends_silence_and_then_nothing(page: Page) -> None:
    events = sent(page)
    page.click("#talk")
    wait_for(page, lambda: len(of(events, "input_audio_buffer.append")) > 0)  # a busy machine's microphone starts late
    page.click("#mute")
    assert page.get_attribute("#mute", "aria-pressed") == "true"
    page.wait_for_timeout(300)
    before = len(of(events, "input_audio_buffer.append"))
    wait_for(page, lambda: len(of(events, "input_audio_buffer.append")) > before)
    silent = of(events, "input_audio_buffer.append")[before:]
    assert {event["audio"].strip("A=") for event in silent} <= {"", "8", "//8"}, "zeros, or the last bit"


def test_a_conversation_goes_on_after_the_connection_was_lost(page: Page, served: Served) -> None:
    page.fill("#text", "Hello")
    page.keyboard.press("Enter")
    until(page, "None: nothing", "#transcript")
    until_turn(page, "ready")
    links = served.app.state.realtime.links
    served.call(lambda: [link.end(1011, "on purpose") for link in list(links)])
    until(page, "The connection was lost", "#notice")
    until(page, "Connected", "#link-text")
    page.wait_for_selector("#notice", state="hidden")
    page.fill("#text", "And before?")
    page.keyboard.press("Enter")
    until(page, "None: None: nothing", "#transcript li:last-child")
    assert page.locator("#transcript li").count() == 4, "nothing twice, nothing lost"


def test_all_of_it_goes_by_keyboard(page: Page) -> None:
    def go_to(name: str) -> None:
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == name:
                return
        raise AssertionError(f"Tab never came to {name}")

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    go_to("open-settings")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="hidden")
    assert page.evaluate("document.activeElement.id") == "open-settings", "focus comes back"
    go_to("talk")
    page.keyboard.press("Enter")
    until_turn(page, "listening", "hearing")
    until_turn(page, "speaking")
    page.keyboard.press("Escape")
    heard, unheard = cut_line(page)
    assert ANSWER.startswith(f"{heard} {unheard}".strip())
    until(page, "Interrupted", "#said")
    go_to("text")
    page.keyboard.type("Again?")
    page.keyboard.press("Enter")
    until(page, "Again?", "#transcript")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.className") == "chip"


def test_leaving_gives_the_place_back(page: Page, served: Served) -> None:
    page.click("#talk")
    until_turn(page, "listening", "hearing")
    page.click("#talk")
    until_turn(page, "off")
    deadline = time.monotonic() + 5
    while served.app.state.realtime.links and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not served.app.state.realtime.links

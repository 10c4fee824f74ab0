"""What the page does when it is told to pause: its buffer by the sample, a cough and an interruption as heard."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from browser import chromium, microphone, needs_browser, opened, played, question, recording_page, until_turn
from playwright.sync_api import Browser, Page
from served import Served, serving

from icebreaker.audio.pcm import load_audio
from icebreaker.engine.scripted import ScriptedEngine

pytestmark = needs_browser

ANSWER = " ".join(f"Street number {number} is long." for number in range(2, 12))
FADE = 240  # samples: 5 ms at 48 kHz
PULLED = """async () => {
  const { JitterBuffer } = await import("/static/sound/jitter.js");
  const buffer = new JitterBuffer(48000), heard = [];
  const pull = (blocks) => {
    for (let i = 0; i < blocks; i++) {
      const out = new Float32Array(128);
      buffer.pull(out);
      heard.push(...out);
    }
  };
  const ramp = (from, to) => Float32Array.from({ length: to - from }, (_, i) => from + i + 1);
  buffer.push("a", ramp(0, 9600));
  pull(10);
  buffer.hold();
  pull(20);
  buffer.push("a", ramp(9600, 12800));
  buffer.end("a");
  buffer.hold();
  const held = buffer.playing;
  pull(10);
  buffer.goOn();
  pull(90);
  buffer.push("b", ramp(0, 9600));
  pull(10);
  buffer.hold();
  const [cut] = buffer.clear();
  pull(2);
  buffer.push("c", ramp(0, 9600));
  pull(2);
  return { heard, held, cut, events: buffer.takeEvents(), targetMs: buffer.targetMs };
}"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    static = recording_page(tmp_path_factory.mktemp("page") / "static")
    engine = {"lead_s": 2.0, "confirm_ms": 300}  # ahead so far that no machine is too slow, and still it pauses at once
    with serving(lambda: ScriptedEngine(lambda items, config: ANSWER, **engine), static=static) as server:
        yield server


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Its microphone asks, coughs while it is answered, and then interrupts."""
    recording = tmp_path_factory.mktemp("microphone") / "cough.wav"
    speech = load_audio(question("what-is-the-opposite-of-hot.flac"), 16_000)
    loudest = int(np.abs(speech).argmax())
    cough = speech[max(0, loudest - 800) : loudest + 1600]
    with chromium(microphone(recording, (0.5, speech), (3.0, cough), (3.0, speech), (30, None))) as running:
        yield running


@pytest.fixture
def page(served: Served, browser: Browser) -> Iterator[Page]:
    with opened(browser, served.http, record=True) as page:
        yield page


def test_the_buffer_pauses_and_goes_on_at_the_very_next_sample(page: Page) -> None:
    told = page.evaluate(PULLED)
    heard = np.array(told["heard"])
    first, pause, rest = np.split(heard, [1280, 1280 + 30 * 128])
    np.testing.assert_array_equal(first, np.arange(1, 1281))
    assert (np.diff(pause[:FADE]) < 0).all(), "it dies away within 5 ms"
    assert not pause[FADE:].any()
    assert told["held"] == {"item": "a", "playedMs": pytest.approx(1280 / 48), "bufferedMs": pytest.approx(11_520 / 48)}
    np.testing.assert_allclose(rest[FADE : 90 * 128], np.arange(1281 + FADE, 12_801), rtol=1e-6)
    np.testing.assert_allclose(rest[:FADE], np.arange(1281, 1281 + FADE) * np.arange(FADE) / FADE, rtol=1e-4, atol=0.1)
    kinds = [(event["kind"], event["item"]) for event in told["events"]]
    assert kinds == [("started", "a"), ("finished", "a"), ("started", "b"), ("started", "c")], "and no underrun"
    assert told["cut"] == {"item": "b", "playedMs": pytest.approx(1280 / 48)}
    np.testing.assert_array_equal(heard[-256:], np.arange(1, 257), "what was cut is held no longer")


def test_a_cough_is_a_pause_and_an_interruption_the_end(page: Page) -> None:
    frames: dict[str, list[Any]] = {"framesent": [], "framereceived": []}

    def keep(socket: Any) -> None:
        for kind, events in frames.items():
            socket.on(kind, lambda frame, events=events: events.append(json.loads(frame)))

    page.on("websocket", keep)
    page.click("#talk")
    until_turn(page, "speaking")
    page.wait_for_selector("li.assistant del.unheard")
    page.wait_for_timeout(300)
    waveform, rate = played(page)
    kinds = [event["type"] for event in frames["framereceived"]]
    ours = [kind for kind in kinds if kind.startswith("icebreaker.")]
    assert ours == ["icebreaker.playback.hold", "icebreaker.playback.go_on", "icebreaker.playback.hold"]
    assert kinds.index("icebreaker.playback.go_on") < len(kinds) - kinds[::-1].index(
        "input_audio_buffer.speech_started"
    )
    (truncated,) = [event for event in frames["framesent"] if event["type"] == "conversation.item.truncate"]
    loud = np.abs(waveform[: len(waveform) // 64 * 64].reshape(-1, 64)).max(1) > 0.05
    spans = np.flatnonzero(np.diff(np.concatenate([[0], loud.astype(int), [0]])))
    starts, ends = spans[::2] * 64 / rate, spans[1::2] * 64 / rate
    assert len(starts) == 2, "before and after the cough"
    assert 0.2 < starts[1] - ends[0] < 1.5
    heard_s = (ends - starts).sum()
    assert heard_s == pytest.approx(truncated["audio_end_ms"] / 1000, abs=0.1), "what was heard is what was told"

"""What the page's buffer does when it is told to pause, sample by sample."""

from collections.abc import Iterator

import numpy as np
import pytest
from browser import chromium, needs_browser, opened
from playwright.sync_api import Page
from served import serving

from icebreaker.engine.scripted import ScriptedEngine
from icebreaker.server.page import STATIC

pytestmark = needs_browser

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


@pytest.fixture
def page() -> Iterator[Page]:
    with (
        serving(ScriptedEngine, static=STATIC) as served,
        chromium() as browser,
        opened(browser, served.http) as page,
    ):
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

"""Debian's Chromium without a window, with a microphone that plays a file, and what the page plays recorded."""

import base64
import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from icebreaker.audio.pcm import Resampler, save_wav
from icebreaker.server.page import STATIC

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here: run scripts/install-debian chromium (make test does), then try again"
)
MICROPHONE_RATE = 48_000
PATIENCE_MS = 45_000
FAKE = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
REFUSING = ("--deny-permission-prompts", "--use-fake-device-for-media-stream")
WITHOUT_DEVICE = ("--use-fake-ui-for-media-stream",)
# Everything that goes to the loudspeaker also goes to an array, sampled at `heardRate`: in the audio thread, so that
# not a sample is missed however busy the page is.
RECORDER = """
const { addModule } = AudioWorklet.prototype, { connect } = AudioNode.prototype;
window.heard = [];
AudioWorklet.prototype.addModule = async function (url) {
  await (this.recorder ??= addModule.call(this, "/static/recorder.js"));
  return addModule.call(this, url);
};
AudioNode.prototype.connect = function (to, ...rest) {
  if (to instanceof AudioDestinationNode) {
    const context = to.context;
    if (!context.recorder) {
      context.recorder = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0 });
      context.recorder.port.onmessage = ({ data }) => window.heard.push(data);
      window.heardRate = context.sampleRate;
    }
    connect.call(this, context.recorder);
  }
  return connect.call(this, to, ...rest);
};
"""
RECORDER_WORKLET = """
registerProcessor("recorder", class extends AudioWorkletProcessor {
  process([input]) {
    this.port.postMessage(input[0]?.slice() ?? new Float32Array(128));
    return true;
  }
});
"""
TAKE = """() => {
  const clip = (v) => Math.max(-1, Math.min(1, v));
  const pcm = window.heard.splice(0).map((block) => Int16Array.from(block, (v) => clip(v) * 32767));
  const text = pcm.map((block) => String.fromCharCode(...new Uint8Array(block.buffer))).join("");
  return [btoa(text), window.heardRate];
}"""


def microphone(path: Path, *pieces: tuple[float, np.ndarray | None]) -> Path:
    """A file for the fake microphone: pieces of (seconds of silence, then a waveform [S] at 16 kHz)."""
    waveform = [np.zeros(0, np.float32)]
    for silence_s, speech in pieces:
        waveform.append(np.zeros(int(silence_s * MICROPHONE_RATE), np.float32))
        if speech is not None:
            waveform.append(Resampler(16_000, MICROPHONE_RATE).push(speech, last=True))
    save_wav(path, np.clip(np.concatenate(waveform), -1, 1), MICROPHONE_RATE)
    return path


_running: list[Playwright] = []  # the one that is running: there cannot be two in a thread


@contextlib.contextmanager
def _shared_playwright() -> Iterator[Playwright]:
    if _running:
        yield _running[0]
        return
    with sync_playwright() as playwright:
        _running.append(playwright)
        try:
            yield playwright
        finally:
            _running.clear()


@contextlib.contextmanager
def chromium(recording: Path | None = None, flags: tuple[str, ...] = FAKE) -> Iterator[Browser]:
    """A browser whose microphone plays ``recording`` once, from its start, whenever a page opens it."""
    arguments = [*flags, "--autoplay-policy=no-user-gesture-required"]
    if recording is not None:
        arguments.append(f"--use-file-for-fake-audio-capture={recording}%noloop")
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")
    with _shared_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def opened(browser: Browser, address: str, *, record: bool = False, **context: Any) -> Iterator[Page]:
    """The page, in a context of its own; an error in its scripts or against its policy fails the test.

    With ``record`` what it plays can be had from ``played``; its server needs the files of ``recording_page``.
    """
    wrong: list[str] = []
    with contextlib.closing(
        browser.new_context(
            **{
                "color_scheme": "light",
                "reduced_motion": "reduce",
                "viewport": {"width": 1200, "height": 780},
                **context,
            }
        )
    ) as inside:
        inside.set_default_timeout(PATIENCE_MS)
        if record:
            inside.add_init_script(RECORDER)
        page = inside.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
        page.goto(address)
        page.wait_for_function("() => document.querySelector('#questions').children.length > 0 || !isSecureContext")
        yield page
        assert wrong == []


def recording_page(folder: Path) -> Path:
    """The page's files with one more, by which the audio thread tells what it plays."""
    shutil.copytree(STATIC, folder)
    (folder / "recorder.js").write_text(RECORDER_WORKLET)
    return folder


def until(page: Page, text: str, within: str = "body") -> None:
    """Wait until ``text`` is seen."""
    page.wait_for_function(
        "([where, text]) => document.querySelector(where).innerText.includes(text)", arg=[within, text]
    )


def until_turn(page: Page, *turns: str) -> None:
    """Wait until the page shows one of these states of the turn."""
    page.wait_for_function("turns => turns.includes(document.body.dataset.turn)", arg=list(turns))


def played(page: Page) -> tuple[np.ndarray, int]:
    """What the loudspeaker played since the last call: a waveform [S] and its rate in Hz."""
    text, rate = page.evaluate(TAKE)
    return np.frombuffer(base64.b64decode(text), "<i2").astype(np.float32) / 32768, int(rate or 48_000)


def question(name: str) -> Path:
    """One of the page's recorded questions."""
    return STATIC / "questions" / name

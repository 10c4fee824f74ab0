from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import chromium, microphone, needs_browser, opened, played, question, recording_page, until_turn
from playwright.sync_api import Browser
from served import Served, serving

from icebreaker.audio.pcm import Resampler, load_audio
from icebreaker.engine.engine import Engine, EngineConfig
from icebreaker.evaluation.recognisers import RECOGNISER_RATE, ClosedSet
from icebreaker.talking import load_dialogue

pytestmark = needs_browser

CAPITALS = ("Paris", "Rome", "Madrid", "London", "Berlin", "Tokyo")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    dialogue = load_dialogue("mini", None)
    static = recording_page(tmp_path_factory.mktemp("page") / "static")
    with serving(lambda: Engine(dialogue, EngineConfig(), name="mini"), static=static) as server:
        yield server


def test_mini_is_asked_through_the_microphone_and_heard_to_answer(served: Served, tmp_path: Path) -> None:
    """Asked up to three times: on a machine that is too busy the microphone itself loses sound."""
    speech = load_audio(question("what-is-the-capital-of-france.flac"), 16_000)
    recording = microphone(tmp_path / "ask.wav", (1.0, speech), (60, None))
    with chromium(recording) as browser:
        for _ in range(3):
            text, heard = ask_once(browser, served.http)
            if "France is Paris" in text:
                break
    assert "The capital of France is Paris." in text
    recogniser = ClosedSet(f"the capital of {land} is {city}" for city in CAPITALS for land in ("france", "spain"))
    assert recogniser.transcribe(heard) == "the capital of france is paris"


def ask_once(browser: Browser, address: str) -> tuple[str, np.ndarray]:
    """The transcript after one question, and what was played: a waveform [S] at the recogniser's rate."""
    with opened(browser, address, record=True) as page:
        page.click("#talk")
        until_turn(page, "speaking")
        until_turn(page, "listening")
        waveform, rate = played(page)
        return page.inner_text("#transcript"), Resampler(rate, RECOGNISER_RATE).push(waveform, last=True)

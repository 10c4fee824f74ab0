from pathlib import Path

import numpy as np
import pytest

from icebreaker.audio.pcm import load_audio
from icebreaker.evaluation.duplex.metrics import Span
from icebreaker.evaluation.duplex.words import UNCLEAR, sounding, spread_words, timed_words
from icebreaker.evaluation.recognisers import PocketSphinx

QUESTION = Path(__file__).parents[3] / "examples" / "question.wav"


def test_sounding_joins_short_gaps() -> None:
    sound = np.zeros(16_000, np.float32)
    sound[1600:3200] = sound[4800:6400] = sound[12_000:13_600] = 0.1
    found = sounding(sound, 16_000)
    assert [(span.start_s, span.end_s) for span in found] == [
        (pytest.approx(0.1), pytest.approx(0.4)),
        (pytest.approx(0.75), pytest.approx(0.85)),
    ]
    assert sounding(np.zeros(1600, np.float32), 16_000) == []


def test_words_spread_by_letters() -> None:
    first, second = spread_words(["a", "abc"], Span(1.0, 3.0))
    assert (first.start_s, first.end_s, second.end_s) == (1.0, 1.5, 3.0)


def test_pocketsphinx_tells_when_each_word_is_said() -> None:
    """The recorded question after a second of silence, at another rate: the same words, a second later."""
    question = load_audio(QUESTION, 16_000)
    recogniser = PocketSphinx()
    found = timed_words(recogniser, question, 16_000)
    assert [word.text for word in found] == recogniser.transcribe(question).split()
    assert len(found) >= 4
    assert all(word.start_s < word.end_s for word in found)
    spans = sounding(question, 16_000)
    assert found[0].start_s == pytest.approx(spans[0].start_s, abs=0.15)
    assert found[-1].end_s == pytest.approx(spans[-1].end_s, abs=0.15)
    late = timed_words(recogniser, np.concatenate([np.zeros(24_000, np.float32), load_audio(QUESTION, 24_000)]), 24_000)
    assert late[0].start_s == pytest.approx(1 + found[0].start_s, abs=0.1)


def test_sound_without_words_is_an_unclear_word() -> None:
    class Deaf:
        name = "deaf"

        def transcribe(self, waveform: np.ndarray) -> str:
            return ""

    sound = np.zeros(16_000, np.float32)
    sound[4000:12_000] = 0.2
    (word,) = timed_words(Deaf(), sound, 16_000)
    assert (word.text, word.end_s - word.start_s) == (UNCLEAR, pytest.approx(0.5))

"""Copies of speech, delayed and blurred, against other speech."""

import numpy as np
import pytest

from icebreaker.engine.coherence import copy_strength
from icebreaker.engine.messages import Waveform

MOST = 8000  # samples of delay


def strength(played: Waveform, heard: Waveform, delays: slice = slice(None)) -> float:
    possible = np.zeros(MOST + 1, bool)
    possible[delays] = True
    return copy_strength(played, heard, possible)


def test_a_copy_is_found_at_its_delay_alone(question: Waveform) -> None:
    end, delay, span = 30000, 3000, 4800
    played = question[end - MOST - span : end]
    heard = 0.05 * question[end - delay - span : end - delay]
    heard = heard + np.random.default_rng(0).normal(0, 0.3 * heard.std(), span).astype(np.float32)
    assert strength(played, heard) > 15
    assert strength(played, heard, slice(delay - 8, delay + 9)) == strength(played, heard)
    assert strength(played, heard, slice(0, delay - 400)) < 7


def test_the_level_does_not_matter(question: Waveform) -> None:
    played, heard = question[10000 : 10000 + MOST + 4800], question[12000:16800]
    assert strength(played, 1e-3 * heard) == pytest.approx(strength(played, heard), rel=1e-3)


def test_other_speech_is_no_copy(question: Waveform) -> None:
    played, other = question[8000 : 8000 + MOST + 4800], question[8000:12800][::-1].copy()
    assert 3 < strength(played, other) < 8


def test_silence_has_no_copies(question: Waveform) -> None:
    heard = question[10000:14800]
    assert strength(np.zeros(MOST + 4800, np.float32), heard) == 0.0
    assert strength(question[: MOST + 4800], heard, slice(0, 0)) == 0.0


def test_lengths_have_to_fit(question: Waveform) -> None:
    with pytest.raises(ValueError, match="expected 8000 samples more than 4800, got 12000 played ones"):
        strength(question[:12000], question[:4800])

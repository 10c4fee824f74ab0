import numpy as np
import pytest

from icebreaker.evaluation.latency import USER_TO_SOUND, audible_from, parts_of_wait
from icebreaker.talking import Answer


def test_parts_add_up_and_the_user_waits_longer() -> None:
    question = np.concatenate([np.full(16_000, 0.5), np.zeros(4_480)]).astype(np.float32)  # 1 s, then 280 ms of silence
    spoken = np.concatenate([np.full(2_400, 1e-4), np.full(2_400, 0.5)]).astype(np.float32)  # 100 ms too soft to hear
    answer = Answer(
        24_000, waveform=spoken, question_s=1.28, listening_ms=80.0,
        latency_ms={"first text": 20.0, "speech decoder prefilled": 25.0, "first codes": 60.0, "first sound": 90.0},
    )  # fmt: skip
    parts = parts_of_wait(answer, question)
    assert list(parts.values())[:5] == [20.0, 5.0, 35.0, 30.0, 90.0]
    assert parts[USER_TO_SOUND] == pytest.approx(280 + 80 / 8 + 90 + 100)


def test_no_sound_no_figures() -> None:
    assert parts_of_wait(Answer(24_000, latency_ms={"first text": 3.0}), np.zeros(10, np.float32)) == {}
    assert audible_from(np.zeros(10, np.float32)) == 0

"""The mini model's own voice through a loudspeaker and a room, with and without somebody speaking over it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

from icebreaker.audio.vad import WINDOW_SAMPLES
from icebreaker.engine.echo import EchoDetector
from icebreaker.talking import answer_file, load_dialogue

QUESTION = Path(__file__).parents[2] / "examples" / "question.wav"
Waveform = NDArray[np.float32]


def through_a_room(waveform: Waveform, delay_ms: float, gain: float) -> Waveform:
    """Delayed, reverberated (60 dB in 0.3 s) and scaled, with a little noise."""
    draw = np.random.default_rng(1)
    response = draw.standard_normal(3200) * np.exp(-np.arange(3200) / 700)
    response[0] = 3.0
    response /= np.sqrt((response**2).sum())
    echo = gain * np.convolve(waveform, response)[: len(waveform)]
    late = np.concatenate([np.zeros(int(16 * delay_ms)), echo])
    return (late + 1e-3 * draw.standard_normal(len(late))).astype(np.float32)


def verdicts(detector: EchoDetector, microphone: Waveform) -> Sequence[tuple[bool, bool]]:
    """Of each window: whether it is loud, and whether it is explained."""
    found = []
    for start in range(0, len(microphone) - WINDOW_SAMPLES, WINDOW_SAMPLES):
        window = microphone[start : start + WINDOW_SAMPLES]
        found.append((float(window.std()) > 0.004, detector.may_echo(start) and detector.explains(window, start)))
    return found


@pytest.fixture(scope="module")
def voice() -> Waveform:
    """[S] what the mini model really says, three times with pauses, at 16 kHz."""
    answer = answer_file(load_dialogue("mini", None), QUESTION)
    said = soxr.resample(answer.waveform, answer.sample_rate, 16000)
    pause = np.zeros(4800, np.float32)
    return np.concatenate([said, pause, said, pause, said]).astype(np.float32)


@pytest.mark.parametrize(("delay_ms", "gain"), [(40, 1.0), (80, 0.3), (350, 0.1), (900, 0.6)])
def test_echo_is_explained(voice: Waveform, delay_ms: float, gain: float) -> None:
    detector = EchoDetector()
    detector.begin(0)
    detector.play(voice)
    found = verdicts(detector, through_a_room(voice, delay_ms, gain))
    assert detector.delay_ms == pytest.approx(delay_ms, abs=45)
    known = next(i for i, (_, explained) in enumerate(found) if explained)
    assert known * 32 < delay_ms + 1000
    loud = [explained for is_loud, explained in found[known:] if is_loud]
    assert len(loud) > 30
    assert np.mean(loud) > 0.85


@pytest.mark.parametrize(("delay_ms", "gain", "level"), [(80, 0.3, 1.0), (350, 0.1, 0.5), (900, 0.6, 1.0)])
def test_a_voice_over_the_echo_is_not(
    voice: Waveform, question: Waveform, delay_ms: float, gain: float, level: float
) -> None:
    """Enough of it to interrupt by anybody's patience but the lowest."""
    detector = EchoDetector()
    detector.begin(0)
    detector.play(voice)
    microphone = through_a_room(voice, delay_ms, gain)
    at, user = 36000, question[8000:28000]
    microphone[at : at + len(user)] += level * user
    found = verdicts(detector, microphone)[at // WINDOW_SAMPLES : (at + len(user)) // WINDOW_SAMPLES]
    assert sum(is_loud and not explained for is_loud, explained in found) * 32 >= 480


def test_a_voice_alone_is_never_explained(voice: Waveform, question: Waveform) -> None:
    """Headphones: the assistant speaks, the microphone hears only the user, who says something else."""
    detector = EchoDetector()
    detector.begin(0)
    detector.play(voice)
    user = np.concatenate([question[20000:28000], question[9000:19000], question[26000:29000]])
    found = verdicts(detector, np.concatenate([np.zeros(4000, np.float32), user, user[::-1]]).astype(np.float32))
    loud = [explained for is_loud, explained in found if is_loud]
    assert np.mean(loud) < 0.2
    assert detector.certain
    assert detector.delay_ms is None


def test_nothing_played_explains_nothing(question: Waveform) -> None:
    assert not any(explained for _, explained in verdicts(EchoDetector(), question))


def test_after_the_end_and_after_a_stop_nothing_echoes(voice: Waveform) -> None:
    detector = EchoDetector()
    detector.begin(16000)
    detector.play(voice)
    assert not detector.may_echo(0)
    assert detector.may_echo(16000 + len(voice))
    assert not detector.may_echo(16000 + len(voice) + 2 * 16000)
    detector.stop(20000)
    assert detector.may_echo(21000)
    assert not detector.may_echo(20000 + 2 * 16000)


def test_what_comes_in_pieces_is_the_same(voice: Waveform) -> None:
    whole, pieces = EchoDetector(), EchoDetector()
    for detector, size in ((whole, len(voice)), (pieces, 777)):
        detector.begin(0)
        for start in range(0, len(voice), size):
            detector.play(voice[start : start + size])
    microphone = through_a_room(voice, 120, 0.4)
    assert verdicts(whole, microphone) == verdicts(pieces, microphone)


@pytest.mark.parametrize(("seconds", "certain"), [(0.6, False), (1.6, True)])
def test_a_silent_microphone_shows_that_there_is_no_echo(voice: Waveform, seconds: float, certain: bool) -> None:
    """Headphones in a quiet room: known as soon as an echo of the longest delay would have come."""
    detector = EchoDetector()
    detector.begin(0)
    detector.play(voice)
    verdicts(detector, np.zeros(int(16000 * seconds), np.float32))
    assert detector.certain is certain


def test_the_first_words_over_the_first_reply_are_no_echo(voice: Waveform, question: Waveform) -> None:
    """Some delays were refuted by silence, and at the others they are no copy of what was played."""
    detector = EchoDetector()
    detector.begin(0)
    detector.play(voice)
    microphone = np.concatenate([np.zeros(9600, np.float32), question[8000:16192]])
    for spoken_ms, doubted, excluded in ((192, True, False), (512, True, True)):
        verdicts(detector, microphone[: 9600 + 16 * spoken_ms + WINDOW_SAMPLES])
        assert not detector.certain
        assert detector.doubts(float(spoken_ms)) is doubted
        assert detector.excludes(float(spoken_ms)) is excluded


@pytest.mark.parametrize("spoken_ms", [240, 480, 800])
@pytest.mark.parametrize(("delay_ms", "gain"), [(40, 1.0), (80, 0.3), (350, 0.1), (900, 0.6)])
def test_the_first_echo_is_not_excluded(voice: Waveform, delay_ms: float, gain: float, spoken_ms: int) -> None:
    detector = EchoDetector()
    detector.begin(0)
    detector.play(voice)
    verdicts(detector, through_a_room(voice, delay_ms, gain)[: int(16 * (delay_ms + 60 + spoken_ms))])
    assert detector.delay_ms is not None or not detector.excludes(float(spoken_ms))

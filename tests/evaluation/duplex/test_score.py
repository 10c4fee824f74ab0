"""What a barge-in leaves in the memory of a system, scored on real speech cut at known words."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pocketsphinx import Decoder

from icebreaker.audio.pcm import load_audio, save_wav
from icebreaker.data.manifest import Item
from icebreaker.evaluation.duplex.metrics import Span, Word
from icebreaker.evaluation.duplex.played import PlayedPart, PlayedReply, Recording
from icebreaker.evaluation.duplex.report import duplex_report
from icebreaker.evaluation.duplex.scenes import Part, Scene
from icebreaker.evaluation.duplex.score import heard_words, leaked, score
from icebreaker.training.align_words import align

TEXT = "A spider has eight long legs."


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    if shutil.which("flite") is None:
        pytest.skip("flite is not installed")
    path: Path = tmp_path_factory.mktemp("speech") / "reply.wav"
    subprocess.run(["flite", "-voice", "slt", "-t", TEXT, "-o", str(path)], check=True)
    return load_audio(path, 16_000)


@pytest.fixture(scope="module")
def after_eight(spoken: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> float:
    """Seconds until "eight" is over, by alignment with the known text."""
    path = tmp_path_factory.mktemp("aligned") / "reply.wav"
    save_wav(path, spoken, 16_000)
    words = align(Decoder(lm=None, loglevel="FATAL"), Item(id="a", audio=path, seconds=2.0, text=TEXT))
    assert words is not None
    return words[3].end_s


def test_heard_words_are_counted_wherever_speech_is_cut(spoken: np.ndarray, after_eight: float) -> None:
    assert heard_words(TEXT, spoken, 16_000) == 6
    assert heard_words(TEXT, spoken[: int(after_eight * 16_000)], 16_000) == 4
    assert heard_words(TEXT, np.zeros(16_000, np.float32), 16_000) == 0
    assert heard_words("", spoken, 16_000) is None
    assert heard_words("Qqzzx likes xyzzyq.", spoken, 16_000) is None  # words that the recogniser cannot know


def test_leaks_are_words_that_only_the_unheard_part_had() -> None:
    unheard = ["eight", "long", "legs"]
    assert leaked("I said that it has eight legs.", unheard, ["spider", "has"])
    assert not leaked("I said something about a spider.", unheard, ["spider", "has"])
    assert not leaked("It has eight.", unheard, ["the question was about eight of them"])
    assert not leaked("An old man", ["an", "old"], [])  # short words prove nothing


def interrupted(spoken: np.ndarray, cut_s: float, kept: str, asked_back: str) -> tuple[Scene, Recording]:
    parts = tuple(Part(role=role, audio=Path("x.wav")) for role in ("question", "interruption", "ask back"))
    cut = PlayedReply("r", "i", 1.0, 1.0, text=TEXT, kept=kept, status="cancelled", sound=spoken[: int(cut_s * 16_000)])
    cut.sounding, cut.audible_s, cut.stopped_s = Span(1.2, 1.2 + cut_s), 1.2, 1.2 + cut_s
    after = PlayedReply("s", "j", 4.0, 4.0, text="Yes.", status="completed", sounding=Span(4.0, 4.5), audible_s=4.0)
    back = PlayedReply("t", "k", 7.0, 7.0, text=asked_back, status="completed", sounding=Span(7.0, 8.0), audible_s=7.0)
    channel = np.zeros(9 * 16_000, np.float32)
    channel[int(1.2 * 16_000) :][: len(cut.sound)] = cut.sound
    channel[4 * 16_000 : int(4.5 * 16_000)] = channel[7 * 16_000 : 8 * 16_000] = 0.1
    at = 1.2 + cut_s - 0.1
    played = [
        PlayedPart("question", 0.0, Span(0.0, 0.9)),
        PlayedPart("interruption", at, Span(at, at + 1)),
        PlayedPart("ask back", 5.0, Span(5.0, 6.0)),
    ]
    recording = Recording(np.zeros(1, np.float32), channel, 16_000, played, [cut, after, back])
    return Scene(id="a", kind="interruption", parts=parts), recording


@pytest.mark.parametrize(
    ("kept", "right"),
    [
        ("A spider has eight", True),
        ("A spider has", True),  # one word may be cut in its middle
        ("A spider has eight long legs", False),  # what was never heard
        ("", False),
        ("The spider has eight", False),  # not what it said
    ],
)
def test_history_is_right_when_it_is_what_was_heard(
    spoken: np.ndarray, after_eight: float, kept: str, right: bool
) -> None:
    scene, recording = interrupted(spoken, after_eight + 0.02, kept, "I said a spider has eight.")
    figures = score(scene, recording, [Word("yes", 4.0, 5.1)])
    assert figures["history_right"] is right
    assert figures["leaked"] is False
    assert figures["tor"] is True
    assert figures["silence_s"] == pytest.approx(0.1, abs=0.06)
    at_end = recording.parts[1].speech.end_s
    assert figures["response_s"] == pytest.approx(4.0 - at_end)


def test_unheard_words_in_the_next_answer_are_a_leak(spoken: np.ndarray, after_eight: float) -> None:
    scene, recording = interrupted(spoken, after_eight - 0.2, "A spider has", "It has eight long legs.")
    figures = score(scene, recording, [])
    assert figures["leaked"] is True
    recording.replies[0].kept = None  # a system that does not tell what it kept
    untold = score(scene, recording, [])
    assert "history_right" not in untold


def test_the_report_says_what_was_measured_and_what_was_not(spoken: np.ndarray, after_eight: float) -> None:
    scene, recording = interrupted(spoken, after_eight, "A spider has eight", "Nothing.")
    told = score(scene, recording, [Word("yes", 4.0, 5.1)])
    noise = Scene(id="n", kind="noise", parts=(Part(role="noise", audio=Path("n.wav")),), about="cough")
    quiet = {"tried": True, "obeyed": None, "answered": False, "underruns": 0, "failures": 0}
    report = duplex_report([(scene, told), (noise, quiet), (noise, {**quiet, "answered": True})], {}, "the recogniser")
    assert report.figures["noise"]["answered"]["percent"] == 50.0
    page = report.markdown()
    assert "| noise while nobody speaks | 50.0 | – | 2 |" in page
    assert "| – cough | 50.0 | – | 2 |" in page
    assert "| history right, % | – | – | 100.00 | 1 |" in page
    assert "While the user speaks at length" not in page  # no such scenes

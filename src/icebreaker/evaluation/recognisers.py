"""Recognisers that had no part in training, behind one small interface. Know nothing of what is measured.

pocketsphinx     free decoding with a US English language model: for clean speech, and beside its own error only
pocketsphinx over a grammar of whole sentences: which of these was said?
a Whisper folder (Hugging Face format), given by its path
"""

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

__all__ = ["RECOGNISER_RATE", "ClosedSet", "PocketSphinx", "Recogniser", "WhisperFolder", "load_recogniser"]

RECOGNISER_RATE = 16_000
PEAK, PADDING_S = 0.7, 0.25  # how pocketsphinx likes its recordings
DECODER_FRAMES = 100  # a second
FILLERS = "<[("  # how words begin that are none: silence, noise
PRONUNCIATION = re.compile(r"\(\d+\)$")
WHISPER_S = 30  # Whisper hears at most this much at once


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


def load_recogniser(name: str, device: str = "cpu") -> Recogniser:
    """``pocketsphinx``, or the Whisper model in the folder ``name``.

    Raises:
        ConfigError: it is neither.
    """
    if name == "pocketsphinx":
        return PocketSphinx()
    if not Path(name).is_dir():
        raise ConfigError(f"expected a recogniser pocketsphinx or a Whisper folder, got {name!r}: no such folder")
    return WhisperFolder(Path(name), device)


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

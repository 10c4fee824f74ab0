"""Voices for the data recipes: the built-in synthesisers, any command, any HTTP server. Knows nothing of what is said.

flite, espeak, festival    see ``synthesis.py``
kokoro                     natural voices of the extra ``voices``, see ``neural_voices.py``
command                    a program that writes a file: ["piper", "-m", "{voice}", "-f", "{file}", "{text}"]
http                       POST {"model", "input", "voice", "response_format": "wav"}, as OpenAI's /v1/audio/speech
"""

import io
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
import soxr

from icebreaker.data.http import Poster, Refused
from icebreaker.data.synthesis import EXECUTABLES, PEAK, Utterance, Voice, Waveform, synthesise, trim
from icebreaker.errors import DataError

__all__ = ["Speaker", "SpeakerConfig"]


@dataclass(frozen=True, kw_only=True)
class SpeakerConfig:
    """A voice, and what speaks with it."""

    name: str  # of the voice, in manifests
    engine: Literal["flite", "espeak", "festival", "kokoro", "command", "http"]
    voice: str = ""  # as the engine calls it
    share: float = 1.0  # how often it is drawn
    tempo: float = 1.0  # corrects a voice that speaks too fast; built-in engines only
    command: tuple[str, ...] = ()  # with {text}, {file} and, if need be, {voice}
    url: str = ""
    model: str = ""  # what an HTTP server calls its model
    timeout_s: float = 120.0
    tries: int = 6

    def __post_init__(self) -> None:
        if self.engine == "command" and not all(
            any(mark in part for part in self.command) for mark in ("{text}", "{file}")
        ):
            raise ValueError(f"voice {self.name!r}: command needs {{text}} and {{file}} among its arguments")
        if self.engine == "http" and not self.url:
            raise ValueError(f"voice {self.name!r}: an HTTP voice needs url")
        if self.share <= 0 or self.tempo <= 0:
            raise ValueError(f"voice {self.name!r}: share and tempo must be positive")


class Speaker:
    """One voice. Ask ``check`` before an hour of work is begun."""

    def __init__(self, config: SpeakerConfig, poster: Poster | None = None) -> None:
        self.config = config
        self.poster = poster
        if config.engine == "http" and poster is None:
            self.poster = Poster(config.url, timeout_s=config.timeout_s, tries=config.tries)

    def check(self) -> None:
        """Raise DataError if the synthesiser is not installed."""
        engine = self.config.engine
        program = self.config.command[0] if engine == "command" else EXECUTABLES.get(engine, "")
        if program and shutil.which(program) is None:
            raise DataError(f"voice {self.config.name!r}: {program} is not installed")

    def speak(self, texts: Sequence[str], sample_rate: int) -> list[Waveform | None]:
        """Speak each text: float32 [S] at ``sample_rate``, trimmed, peak 0.7; None where the engine could not.

        Raises:
            DataError: an HTTP voice cannot be reached.
        """
        if self.config.engine in ("command", "http"):
            return [self._one(text, sample_rate) for text in texts]
        try:
            return [*self._built_in(texts, sample_rate)]
        except (DataError, ValueError, subprocess.TimeoutExpired):  # one text spoils a call: find it
            return [self._one(text, sample_rate) for text in texts]

    def _one(self, text: str, sample_rate: int) -> Waveform | None:
        match self.config.engine:
            case "command":
                return self._command(text, sample_rate)
            case "http":
                return self._http(text, sample_rate)
            case _:
                try:
                    return self._built_in([text], sample_rate)[0]
                except (DataError, ValueError, subprocess.TimeoutExpired):
                    return None

    def _built_in(self, texts: Sequence[str], sample_rate: int) -> list[Waveform]:
        config: Any = self.config
        voice = Voice(name=config.name, engine=config.engine, engine_voice=config.voice, tempo=config.tempo)
        return synthesise(voice, [Utterance(text=text) for text in texts], sample_rate)

    def _command(self, text: str, sample_rate: int) -> Waveform | None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "speech.wav"
            fields = {"{text}": text, "{file}": str(file), "{voice}": self.config.voice}
            command = [_fill(part, fields) for part in self.config.command]
            try:
                done = subprocess.run(command, capture_output=True, timeout=self.config.timeout_s, check=False)
            except subprocess.TimeoutExpired:
                return None
            return None if done.returncode or not file.is_file() else _read(file, sample_rate)

    def _http(self, text: str, sample_rate: int) -> Waveform | None:
        assert self.poster is not None
        request = {"model": self.config.model, "input": text, "voice": self.config.voice, "response_format": "wav"}
        try:
            return _read(io.BytesIO(self.poster.post(request).content), sample_rate)
        except Refused:
            return None


def _fill(part: str, fields: dict[str, str]) -> str:
    for mark, value in fields.items():
        if part == mark:  # the text itself may hold a mark: an argument that is one is not looked at again
            return value
    for mark, value in fields.items():
        part = part.replace(mark, value)
    return part


def _read(file: Any, sample_rate: int) -> Waveform | None:
    """Audio in any format soundfile reads, as mono at ``sample_rate``; None where it is none, or silence."""
    try:
        sound, native_rate = soundfile.read(file, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError:
        return None
    waveform = np.asarray(soxr.resample(sound.mean(axis=1), native_rate, sample_rate), dtype=np.float32)
    peak = float(np.abs(waveform).max(initial=0.0))
    return trim(waveform * np.float32(PEAK / peak), sample_rate) if peak else None

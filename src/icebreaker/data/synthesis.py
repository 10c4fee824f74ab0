"""Speech from the free synthesisers flite, espeak-ng and festival, as subprocesses, and from neural voices.

Knows nothing of corpora.

Pitch and formants move together by resampling: speech synthesised ``pitch`` times slower and played ``pitch`` times
faster keeps its tempo and sounds like a smaller (above 1) or larger (below 1) speaker, with every engine alike.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from icebreaker.data import neural_voices
from icebreaker.errors import DataError

__all__ = [
    "ASSISTANT",
    "BREADTH_VOICES",
    "HELD_OUT_NATURAL_VOICES",
    "HELD_OUT_VOICES",
    "MORE_VOICES",
    "NATURAL_VOICES",
    "TRAIN_VOICES",
    "Utterance",
    "Voice",
    "synthesise",
]

Waveform = NDArray[np.float32]
PEAK = 0.7
SILENCE_DB = -40.0  # of the peak
MARGIN_S = 0.1  # silence kept at either end
ESPEAK_WORDS_PER_MINUTE = 160  # speed 1.0
TIMEOUT_S = 300
SOUNDS = {"mhm": "um hum", "hmm": "hum"}  # synthesisers spell them letter by letter, in nearly a second
EXECUTABLES = {"flite": "flite", "espeak": "espeak-ng", "festival": "festival"}


@dataclass(frozen=True, kw_only=True)
class Voice:
    """A synthesiser's voice. ``share`` is how often it is drawn, ``tempo`` corrects a voice that speaks too fast."""

    name: str
    engine: Literal["flite", "espeak", "festival", "kokoro"]
    engine_voice: str
    share: float = 1.0
    tempo: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """A sentence to be spoken ``speed`` times faster than usual, ``pitch`` times higher."""

    text: str
    speed: float = 1.0
    pitch: float = 1.0


def _espeak(name: str, share: float = 1.0) -> Voice:
    return Voice(name=f"espeak-{name}", engine="espeak", engine_voice=name, share=share)


ASSISTANT = Voice(name="festival-slt", engine="festival", engine_voice="cmu_us_slt_arctic_hts", tempo=1 / 1.12)
TRAIN_VOICES = (
    Voice(name="flite-slt", engine="flite", engine_voice="slt", share=4.0),
    Voice(name="flite-rms", engine="flite", engine_voice="rms", share=4.0),
    Voice(name="flite-awb", engine="flite", engine_voice="awb", share=4.0),
    Voice(name="flite-kal16", engine="flite", engine_voice="kal16", share=4.0),
    Voice(name="festival-slt", engine="festival", engine_voice="cmu_us_slt_arctic_hts", share=0.7),
    _espeak("en-us+klatt", 1.0),
    _espeak("en-us+klatt2", 1.0),
    _espeak("en-us", 0.7),
    _espeak("en-us+f3", 0.7),
    _espeak("en-us+m3", 0.7),
    _espeak("en-gb", 0.7),
    _espeak("en-gb+f2", 0.5),
    _espeak("en-gb-scotland", 0.5),
)
BREADTH_VOICES = (  # for the ears alone: harder to understand than the others, and many
    *TRAIN_VOICES,
    Voice(name="festival-kal", engine="festival", engine_voice="kal_diphone", share=3.0),
    *(
        _espeak(f"en-us+{variant}", 0.25)
        for variant in (
            "Alex", "Andy", "Annie", "adam", "anika", "belinda", "caleb", "david", "ed", "f1", "f2", "f4", "f5", "john",
            "klatt3", "klatt5", "linda", "m1", "m2", "m4", "m5", "m6", "m7", "m8", "max", "michel", "rob", "steph",
        )
    ),
    *(_espeak(accent, 0.4) for accent in ("en-029", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-gb-x-rp", "en-us-nyc")),
)  # fmt: skip
HELD_OUT_VOICES = (  # no stage trains on these
    Voice(name="festival-ked", engine="festival", engine_voice="ked_diphone"),
    Voice(name="espeak-en-us+klatt4", engine="espeak", engine_voice="en-us+klatt4"),
)
_HIBARI = Voice(name="hibari-heart", engine="kokoro", engine_voice=neural_voices.HIBARI, share=12.0)
HELD_OUT_NATURAL_VOICES = tuple(
    Voice(name=f"kokoro-{speaker}", engine="kokoro", engine_voice=speaker)
    for speaker in ("af_bella", "am_michael", "bf_emma", "bm_george")
)
NATURAL_VOICES = (
    *(
        Voice(name=f"kokoro-{speaker}", engine="kokoro", engine_voice=speaker, share=0.3 if kind == "foreign" else 1.0)
        for kind, speakers in neural_voices.SPEAKERS.items()
        for speaker in speakers
        if speaker not in {voice.engine_voice for voice in HELD_OUT_NATURAL_VOICES}
    ),
    replace(_HIBARI, share=45.0),  # fifty times faster
)
MORE_VOICES = (*BREADTH_VOICES, _HIBARI)


def synthesise(voice: Voice, utterances: Sequence[Utterance], sample_rate: int) -> list[Waveform]:
    """Speak ``utterances``: float32 [S] each, at ``sample_rate``, trimmed, peak ``PEAK``.

    Raises:
        DataError: the synthesiser is not installed or fails.
        ValueError: a text that could be taken for something else than text.
    """
    for utterance in utterances:
        if not utterance.text[:1].isalpha() or any(mark in utterance.text for mark in '"\\<>'):
            raise ValueError(f"expected plain words that begin with a letter, got {utterance.text!r}")
    utterances = [replace(utterance, text=_as_it_sounds(utterance.text)) for utterance in utterances]
    if voice.engine == "kokoro":
        return [_speak_naturally(voice, utterance, sample_rate) for utterance in utterances]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [folder / f"{index}.wav" for index in range(len(utterances))]
        if voice.engine == "festival":
            _run(["festival", "-b", str(_festival_script(folder, voice, utterances, files))])
        else:
            for utterance, file in zip(utterances, files, strict=True):
                _run(_command(voice, utterance, file))
        return [
            _finish(file, utterance.pitch, sample_rate, voice)
            for utterance, file in zip(utterances, files, strict=True)
        ]


def _as_it_sounds(text: str) -> str:
    return " ".join(SOUNDS.get(word.lower(), word) for word in text.split(" "))


def trim(waveform: Waveform, sample_rate: int) -> Waveform:
    """Cut silence at both ends to at most ``MARGIN_S``."""
    threshold = np.abs(waveform).max(initial=0.0) * 10 ** (SILENCE_DB / 20)
    loud = np.flatnonzero(np.abs(waveform) > threshold)
    if not len(loud):
        return waveform
    margin = round(MARGIN_S * sample_rate)
    return waveform[max(0, loud[0] - margin) : loud[-1] + margin + 1]


def _stretch(voice: Voice, utterance: Utterance) -> float:
    """How much longer than the engine's default, before resampling by ``pitch`` shortens it again."""
    return utterance.pitch / (utterance.speed * voice.tempo)


def _command(voice: Voice, utterance: Utterance, file: Path) -> list[str]:
    stretch = _stretch(voice, utterance)
    if voice.engine == "flite":
        setting = ["--setf", f"duration_stretch={stretch:.4f}"]
        return ["flite", "-voice", voice.engine_voice, *setting, "-t", utterance.text, "-o", str(file)]
    words_per_minute = str(round(ESPEAK_WORDS_PER_MINUTE / stretch))
    return ["espeak-ng", "-v", voice.engine_voice, "-s", words_per_minute, "-w", str(file), utterance.text]


def _festival_script(folder: Path, voice: Voice, utterances: Sequence[Utterance], files: Sequence[Path]) -> Path:
    """Load the voice once (a third of a second) and write many files.

    The HTS voice ignores ``Duration_Stretch``; its engine takes a speech rate.
    """
    is_hts = voice.engine_voice.endswith("_hts")
    lines = [f"(voice_{voice.engine_voice})", "(set! voice_params hts_engine_params)" if is_hts else ""]
    for utterance, file in zip(utterances, files, strict=True):
        stretch = _stretch(voice, utterance)
        if is_hts:
            lines.append(f'(set! hts_engine_params (cons (list "-r" {1 / stretch:.4f}) voice_params))')
        else:
            lines.append(f"(Parameter.set 'Duration_Stretch {stretch:.4f})")
        lines.append(f'(utt.save.wave (utt.synth (Utterance Text "{utterance.text}")) "{file}" \'riff)')
    script = folder / "speak.scm"
    script.write_text("\n".join(lines) + "\n")
    return script


def _run(command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        raise DataError(f"{command[0]} is not installed; on Debian run `make data-packages`")
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise DataError(f"{' '.join(command[:4])} ... failed with {done.returncode}: {done.stderr.strip()[-300:]}")


def _finish(file: Path, pitch: float, sample_rate: int, voice: Voice) -> Waveform:
    try:
        waveform, native_rate = soundfile.read(file, dtype="float32")
    except soundfile.LibsndfileError as error:
        raise DataError(f"{voice.name} left no usable audio: {error}; check that the voice is installed") from error
    return _level(waveform, native_rate * pitch, sample_rate, voice)


def _speak_naturally(voice: Voice, utterance: Utterance, sample_rate: int) -> Waveform:
    waveform = neural_voices.speak(voice.engine_voice, utterance.text, 1 / _stretch(voice, utterance))
    return _level(waveform, neural_voices.SAMPLE_RATE * utterance.pitch, sample_rate, voice)


def _level(waveform: Waveform, native_rate: float, sample_rate: int, voice: Voice) -> Waveform:
    """At ``sample_rate``, trimmed, peak ``PEAK``."""
    waveform = np.asarray(soxr.resample(waveform, native_rate, sample_rate), dtype=np.float32)
    peak = float(np.abs(waveform).max(initial=0.0))
    if not peak:
        raise DataError(f"{voice.name} returned silence")
    return trim(waveform * np.float32(PEAK / peak), sample_rate)

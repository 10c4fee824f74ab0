"""Recordings in and out: files, sample rates, int16. Knows nothing of features or models.

A waveform here is a float32 array [S], mono, full scale at 1. Resampling and lossy codecs may overshoot a little;
``waveform_to_pcm`` saturates.
"""

import io
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import ArrayLike, NDArray

from icebreaker.errors import AudioError

__all__ = ["Resampler", "load_audio", "pcm_to_waveform", "save_wav", "stream_audio", "waveform_to_pcm"]

Waveform = NDArray[np.float32]

BLOCK_FRAMES = 65536  # read at a time: memory stays constant however long the file
FULL_SCALE = 32768  # of int16
# Far above any overshoot, far below int16 values stored as floats, which would come out 90 dB too loud.
LARGEST_SAMPLE = 64.0
LOWEST_RATE, HIGHEST_RATE = 1000, 1_536_000  # what a recording can have; a header outside is damaged


def load_audio(path: str | Path, sample_rate: int) -> Waveform:
    """Read a file (wav, flac, ogg, opus, mp3, ...) as mono [S] at ``sample_rate``; channels are averaged.

    A WAV shorter than its header says is read as far as it goes: recorders that write to a pipe leave such headers.

    Raises:
        AudioError: the file is missing, empty, damaged or holds samples that are no sound.
    """
    chunks = list(stream_audio(path, sample_rate, BLOCK_FRAMES))
    return chunks[0] if len(chunks) == 1 else np.concatenate(chunks)


def stream_audio(path: str | Path, sample_rate: int, chunk_samples: int) -> Iterator[Waveform]:
    """Like ``load_audio`` in constant memory: chunks of ``chunk_samples``, the last one shorter but never empty.

    Raises:
        AudioError: while iterating, as ``load_audio``; a truncated file fails where it ends.
    """
    if sample_rate <= 0 or chunk_samples <= 0:
        raise ValueError(f"expected positive sample_rate and chunk_samples, got {sample_rate} and {chunk_samples}")
    return _chunks(_resampled(Path(path), sample_rate), chunk_samples)


class Resampler:
    """Streaming change of sample rate for one mono stream (soxr, high quality). Equal rates pass through."""

    def __init__(self, from_rate: int, to_rate: int) -> None:
        if from_rate <= 0 or to_rate <= 0:
            raise ValueError(f"expected positive sample rates, got {from_rate} and {to_rate}")
        stream = soxr.ResampleStream(from_rate, to_rate, num_channels=1, dtype="float32", quality="HQ")
        self._stream = None if from_rate == to_rate else stream
        self._ended = False

    def push(self, chunk: Waveform, last: bool = False) -> Waveform:
        """The next output samples, perhaps none yet; ``last`` flushes the filter and ends the stream."""
        if self._ended:
            raise ValueError("the last chunk was already pushed; make a new Resampler for a new stream")
        if chunk.ndim != 1:
            raise ValueError(f"expected a mono waveform [S], got shape {chunk.shape}; average the channels first")
        self._ended = last
        chunk = np.ascontiguousarray(chunk, dtype=np.float32)
        if self._stream is None:
            return chunk
        resampled: Waveform = self._stream.resample_chunk(chunk, last=last)
        return resampled


def waveform_to_pcm(waveform: ArrayLike) -> NDArray[np.int16]:
    """Round to int16 of the same shape, full scale 32768; what is louder saturates.

    Raises:
        ValueError: a sample is NaN.
    """
    scaled = np.rint(np.asarray(waveform, dtype=np.float32) * FULL_SCALE)
    if np.isnan(scaled).any():
        raise ValueError("expected numbers as samples, got NaN; look for the fault where the waveform was made")
    return np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def pcm_to_waveform(pcm: bytes | NDArray[np.int16]) -> Waveform:
    """Little-endian int16 bytes or an int16 array to a float32 waveform in [-1, 1)."""
    if isinstance(pcm, bytes | bytearray | memoryview):
        if len(pcm) % 2:
            raise ValueError(f"expected an even number of bytes of int16, got {len(pcm)}; a sample was cut in half")
        pcm = np.frombuffer(pcm, dtype="<i2")
    if pcm.dtype != np.int16:
        raise ValueError(f"expected int16 samples, got {pcm.dtype}")
    return pcm.astype(np.float32) / np.float32(FULL_SCALE)


def save_wav(path: str | Path, waveform: ArrayLike, sample_rate: int) -> None:
    """Write mono [S] as 16-bit WAV; under ``path`` stands the whole file or what stood there before.

    Raises:
        AudioError: the file cannot be written (no folder, no permission, disk full).
    """
    path, pcm = Path(path), waveform_to_pcm(waveform)
    if pcm.ndim != 1 or sample_rate <= 0:
        raise ValueError(f"expected a mono waveform [S] and a positive rate, got shape {pcm.shape}, {sample_rate} Hz")
    encoded = io.BytesIO()
    soundfile.write(encoded, pcm, sample_rate, format="WAV", subtype="PCM_16")
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with aside.open("xb") as file:
            file.write(encoded.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise AudioError(
            f"{path}: cannot write {encoded.getbuffer().nbytes} bytes: {error.strerror}; "
            "give a writable folder with enough free space"
        ) from error


def _chunks(blocks: Iterator[Waveform], chunk_samples: int) -> Iterator[Waveform]:
    """Cut blocks of any length into chunks of one length."""
    pending = np.zeros(0, dtype=np.float32)
    for block in blocks:
        pending = np.concatenate([pending, block])
        whole = len(pending) - len(pending) % chunk_samples
        for start in range(0, whole, chunk_samples):
            yield pending[start : start + chunk_samples]
        pending = pending[whole:]
    if len(pending):
        yield pending


def _resampled(path: Path, sample_rate: int) -> Iterator[Waveform]:
    """Mono blocks at ``sample_rate``; at least one sample in all."""
    made = 0
    with _open(path) as file:
        resampler = Resampler(file.samplerate, sample_rate)
        for block in _mono_blocks(path, file):
            resampled = resampler.push(block)
            made += len(resampled)
            yield resampled
    tail = resampler.push(np.zeros(0, dtype=np.float32), last=True)
    yield tail if made + len(tail) else block[:1]  # a few samples can be less than half of one at a lower rate


class _Sequential(soundfile.SoundFile):  # type: ignore[misc]
    """A file read from start to end. soundfile else seeks after every block, and MP3 loses 65 ms at each seek."""

    def seekable(self) -> bool:
        return False


def _open(path: Path) -> soundfile.SoundFile:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise AudioError(f"{path}: expected an audio file, {what}; check the path")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: expected audio, got a file of 0 bytes; record or copy it again")
    try:
        file = _Sequential(path)
    except (soundfile.LibsndfileError, TypeError, OSError) as error:  # TypeError: headerless formats by extension
        raise AudioError(
            f"{path}: expected wav, flac, ogg, opus or mp3, got something unreadable ({_reason(error)}); convert it"
        ) from error
    if not LOWEST_RATE <= file.samplerate <= HIGHEST_RATE:
        file.close()
        raise AudioError(
            f"{path}: expected a sample rate of {LOWEST_RATE} to {HIGHEST_RATE} Hz, got {file.samplerate} Hz; "
            "the header is damaged, convert the file again"
        )
    return file


def _mono_blocks(path: Path, file: soundfile.SoundFile) -> Iterator[Waveform]:
    """Blocks as stored, channels averaged, checked."""
    frames = 0
    while True:
        try:
            block = file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise AudioError(
                f"{path}: damaged after {frames / file.samplerate:.2f} s ({_reason(error)}); copy or convert it again"
            ) from error
        if not len(block):
            break
        _check_samples(path, block, frames / file.samplerate)
        frames += len(block)
        yield block.mean(axis=1)
    if not frames:
        raise AudioError(f"{path}: expected at least one sample, got none; record it again")
    if file.frames > frames:
        raise AudioError(
            f"{path}: expected {file.frames / file.samplerate:.2f} s as its header says, got "
            f"{frames / file.samplerate:.2f} s; the file is truncated, copy it again"
        )


def _check_samples(path: Path, block: NDArray[np.float32], offset_s: float) -> None:
    peak = np.abs(block).max()
    if peak <= LARGEST_SAMPLE:  # also false for NaN
        return
    raise AudioError(
        f"{path}: expected float samples in [-1, 1], got {peak} within {offset_s:.2f} s and the next "
        f"{len(block)} frames; scale to full scale 1 and replace NaN and infinity"
    )


def _reason(error: Exception) -> str:
    return str(getattr(error, "error_string", error)).rstrip(".")

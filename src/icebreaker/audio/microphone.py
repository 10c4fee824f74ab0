"""Microphone in, speaker out, by PortAudio (the extra ``microphone``). Knows nothing of models or turns."""

import importlib
import logging
import queue
import threading
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from icebreaker.audio.fbank import CHUNK_SAMPLES, SAMPLE_RATE
from icebreaker.audio.pcm import Resampler
from icebreaker.errors import AudioError

__all__ = ["Microphone", "Speaker"]

logger = logging.getLogger(__name__)

Waveform = NDArray[np.float32]

SILENT_DEVICE_S = 5.0  # a working microphone delivers all the time, even silence
QUEUED_BLOCKS = 256  # of the device; a listener this far behind (some seconds) cannot keep up


class Microphone:
    """Blocks of 160 ms at 16 kHz: ``with Microphone() as microphone: for block in microphone: ...``."""

    def __init__(self, device: int | str | None = None) -> None:
        self._sounddevice = _load()
        self._blocks: queue.Queue[Waveform] = queue.Queue(QUEUED_BLOCKS)
        self._rate = _rate(self._sounddevice, "input", device, SAMPLE_RATE)
        self._stream = _open(self._sounddevice, "input", device, self._rate, self._heard)

    def __enter__(self) -> Self:
        _start(self._sounddevice, self._stream, "input")
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def __iter__(self) -> Iterator[Waveform]:
        """[CHUNK_SAMPLES] float32 each, without end.

        Raises:
            AudioError: the device went silent, as when it is unplugged.
        """
        resampler = Resampler(self._rate, SAMPLE_RATE)
        pending = np.zeros(0, dtype=np.float32)
        while True:
            try:
                heard = self._blocks.get(timeout=SILENT_DEVICE_S)
            except queue.Empty:
                raise AudioError(
                    f"expected sound from the microphone, got none for {SILENT_DEVICE_S:.0f} s; plug it in again"
                ) from None
            pending = np.concatenate([pending, resampler.push(heard)])
            while len(pending) >= CHUNK_SAMPLES:
                yield pending[:CHUNK_SAMPLES]
                pending = pending[CHUNK_SAMPLES:]

    def clear(self) -> None:
        """Forget what was recorded and not yet read."""
        while True:
            try:
                self._blocks.get_nowait()
            except queue.Empty:
                return

    def _heard(self, samples: NDArray[np.float32], frames: int, time: object, status: object) -> None:
        """Called by PortAudio's thread with [frames, 1]; its buffer is only lent."""
        try:
            self._blocks.put_nowait(samples[:, 0].copy())
        except queue.Full:
            logger.warning("microphone: lost %d samples, the listener is too slow", frames)


class Speaker:
    """Plays what it is given without making the caller wait: ``with Speaker(24000) as speaker: speaker.play(x)``."""

    def __init__(self, sample_rate: int, device: int | str | None = None) -> None:
        self._sounddevice = _load()
        self._sample_rate = sample_rate
        self._rate = _rate(self._sounddevice, "output", device, sample_rate)
        self._resampler = Resampler(sample_rate, self._rate)
        self._pending = np.zeros(0, dtype=np.float32)  # at the device's rate
        self._held = False
        self._changed = threading.Condition()
        self._stream = _open(self._sounddevice, "output", device, self._rate, self._fill)

    def __enter__(self) -> Self:
        _start(self._sounddevice, self._stream, "output")
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def play(self, waveform: Waveform) -> None:
        """Append [S] to what is to be heard."""
        with self._changed:
            self._pending = np.concatenate([self._pending, self._resampler.push(waveform)])

    @property
    def pending_s(self) -> float:
        """Seconds given but not yet handed to the device."""
        with self._changed:
            return len(self._pending) / self._rate

    def stop(self) -> float:
        """Fall silent at once, for a user who interrupts; the seconds that are now never heard."""
        with self._changed:
            unheard_s = len(self._pending) / self._rate
            self._pending, self._held = self._pending[:0], False
            self._resampler = Resampler(self._sample_rate, self._rate)
            self._changed.notify_all()
            return unheard_s

    def hold(self) -> None:
        """Pause at once, and keep what is still to be heard."""
        with self._changed:
            self._held = True

    def go_on(self) -> None:
        """Play on at the very next sample."""
        with self._changed:
            self._held = False

    def drain(self, timeout_s: float | None = None) -> bool:
        """Wait until all is handed to the device; false if ``timeout_s`` passed before."""
        with self._changed:
            rest = self._resampler.push(np.zeros(0, dtype=np.float32), last=True)
            self._pending = np.concatenate([self._pending, rest])
            self._resampler = Resampler(self._sample_rate, self._rate)
            return self._changed.wait_for(lambda: not len(self._pending), timeout_s)

    def _fill(self, samples: NDArray[np.float32], frames: int, time: object, status: object) -> None:
        """Called by PortAudio's thread to fill [frames, 1]."""
        with self._changed:
            count = 0 if self._held else frames
            ready, self._pending = self._pending[:count], self._pending[count:]
            if not len(self._pending):
                self._changed.notify_all()
        samples[: len(ready), 0] = ready
        samples[len(ready) :] = 0


def _load() -> Any:
    """The module sounddevice, loaded when a device is wanted: importing it starts PortAudio."""
    try:
        return importlib.import_module("sounddevice")
    except ImportError as error:
        raise AudioError(
            "expected the extra 'microphone', sounddevice is not installed; pip install 'icebreaker-speech[microphone]'"
        ) from error
    except OSError as error:
        raise AudioError(
            f"expected PortAudio, got: {error}; install it, on Debian: apt install libportaudio2"
        ) from error


def _rate(sounddevice: Any, kind: str, device: int | str | None, wanted: int) -> int:
    """``wanted``, or the device's own rate if it cannot do that."""
    try:
        info = sounddevice.query_devices(device, kind)
    except (sounddevice.PortAudioError, ValueError) as error:
        raise _no_device(kind, device, error) from error
    check = sounddevice.check_input_settings if kind == "input" else sounddevice.check_output_settings
    try:
        check(device=device, channels=1, dtype="float32", samplerate=wanted)
    except sounddevice.PortAudioError:
        own: int = round(info["default_samplerate"])
        logger.info("%s device cannot do %d Hz, resampling at %d Hz", kind, wanted, own)
        return own
    return wanted


def _open(sounddevice: Any, kind: str, device: int | str | None, rate: int, callback: Any) -> Any:
    stream = sounddevice.InputStream if kind == "input" else sounddevice.OutputStream
    try:
        return stream(device=device, channels=1, dtype="float32", samplerate=rate, callback=callback)
    except sounddevice.PortAudioError as error:
        raise _no_device(kind, device, error) from error


def _start(sounddevice: Any, stream: Any, kind: str) -> None:
    try:
        stream.start()
    except sounddevice.PortAudioError as error:
        stream.close()
        raise _no_device(kind, None, error) from error


def _no_device(kind: str, device: int | str | None, error: Exception) -> AudioError:
    wanted = f"the {kind} device {device!r}" if device is not None else f"a default {kind} device"
    return AudioError(f"expected {wanted}, got: {error}; plug one in, or list devices: python -m sounddevice")

"""Audio on the wire and inside: formats, base64, streaming resampling. Knows nothing of events."""

import base64
import binascii
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from icebreaker.audio import g711
from icebreaker.audio.pcm import Resampler, pcm_to_waveform, waveform_to_pcm
from icebreaker.errors import ProtocolError
from icebreaker.server.fields import JSON, Fields, shown

__all__ = ["HEARD_RATE", "PCM", "Ears", "Format", "Mouth", "decode_base64"]

Waveform = NDArray[np.float32]
HEARD_RATE = 16000  # Hz, what a session hears (``engine.messages.Append``)
PCM_RATES = (24000, 8000, 16000, 48000)  # Hz; the first is the protocol's only one, and the default


@dataclass(frozen=True)
class Format:
    """How sound is written: ``audio/pcm`` (int16, little-endian) at ``rate`` Hz, or ``audio/pcmu``, ``audio/pcma``."""

    kind: Literal["audio/pcm", "audio/pcmu", "audio/pcma"] = "audio/pcm"
    rate: int = PCM_RATES[0]

    @classmethod
    def read(cls, fields: Fields) -> "Format":
        """From a ``format`` object.

        Raises:
            ProtocolError: no such format, or no such rate.
        """
        match fields.choice("type", ("audio/pcm", "audio/pcmu", "audio/pcma")):
            case "audio/pcmu":
                return cls("audio/pcmu", g711.SAMPLE_RATE)
            case "audio/pcma":
                return cls("audio/pcma", g711.SAMPLE_RATE)
        rate = fields.integer("rate", 1, 1_000_000) or PCM_RATES[0]
        if rate not in PCM_RATES:
            raise fields.wrong("rate", "one of " + ", ".join(map(str, PCM_RATES)), str(rate))
        return cls("audio/pcm", rate)

    def rendered(self) -> JSON:
        """As a ``format`` object."""
        return {"type": self.kind, "rate": self.rate} if self.kind == "audio/pcm" else {"type": self.kind}

    def decode(self, sound: bytes) -> Waveform:
        """Bytes to a waveform [S] at ``rate``.

        Raises:
            ProtocolError: a sample is cut in half.
        """
        if self.kind != "audio/pcm":
            return g711.decode_g711(sound, "mu" if self.kind == "audio/pcmu" else "a")
        if len(sound) % 2:
            raise ProtocolError(
                f"audio: expected whole samples of two bytes (PCM16), got {len(sound)} bytes", "invalid_audio", "audio"
            )
        return pcm_to_waveform(sound)

    def encode(self, waveform: Waveform) -> bytes:
        """A waveform [S] at ``rate`` to bytes."""
        if self.kind != "audio/pcm":
            return g711.encode_g711(waveform, "mu" if self.kind == "audio/pcmu" else "a")
        return waveform_to_pcm(waveform).astype("<i2").tobytes()


PCM = Format()


class Ears:
    """The client's sound, from its format to what the engine hears (16 kHz), as one stream."""

    def __init__(self, format: Format = PCM) -> None:
        self.format = format
        self._resampler = Resampler(format.rate, HEARD_RATE)

    def hear(self, sound: bytes) -> Waveform:
        """More sound; the samples that it completes, a little behind."""
        return self._resampler.push(self.format.decode(sound))

    def finish(self) -> Waveform:
        """The samples still in the filter; what comes next is another stream."""
        rest = self._resampler.push(np.zeros(0, np.float32), last=True)
        self._resampler = Resampler(self.format.rate, HEARD_RATE)
        return rest

    def whole(self, sound: bytes) -> Waveform:
        """A recording of its own, aside from the stream."""
        return Resampler(self.format.rate, HEARD_RATE).push(self.format.decode(sound), last=True)


class Mouth:
    """One reply's sound, from the engine's rate to the client's format, in base64."""

    def __init__(self, sample_rate: int, format: Format = PCM) -> None:
        self.format = format
        self.sent_ms = 0.0
        self._resampler = Resampler(sample_rate, format.rate)

    def say(self, waveform: Waveform, *, last: bool = False) -> str:
        """What can be sent after these samples; empty if nothing yet."""
        waveform = self._resampler.push(waveform, last=last)
        self.sent_ms += 1000 * len(waveform) / self.format.rate
        return base64.b64encode(self.format.encode(waveform)).decode()


def decode_base64(text: str, param: str) -> bytes:
    """The bytes of a base64 string.

    Raises:
        ProtocolError: it is none.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProtocolError(
            f"{param}: expected base64, got {shown(text[:40])} ({error})", "invalid_base64", param
        ) from error

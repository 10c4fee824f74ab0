"""G.711, the sound of telephones: one byte a sample at 8 kHz, mu-law and A-law (ITU-T G.711). Tables, no loops."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from icebreaker.audio.pcm import FULL_SCALE, pcm_to_waveform, waveform_to_pcm

__all__ = ["SAMPLE_RATE", "Law", "decode_g711", "encode_g711"]

Law = Literal["mu", "a"]
Waveform = NDArray[np.float32]
SAMPLE_RATE = 8000  # Hz
MU_BIAS = 0x84  # added before the logarithm, so that the segments of mu-law start at powers of two
MU_CLIP = 32635  # the largest magnitude that the bias leaves room for


def decode_g711(encoded: bytes, law: Law) -> Waveform:
    """Bytes to a waveform [S] in [-1, 1) at 8 kHz."""
    return pcm_to_waveform(DECODED[law][np.frombuffer(encoded, np.uint8)])


def encode_g711(waveform: Waveform, law: Law) -> bytes:
    """A waveform [S] at 8 kHz to a byte a sample; what is louder than full scale saturates."""
    encoded: NDArray[np.uint8] = ENCODED[law][waveform_to_pcm(waveform).astype(np.int32) + FULL_SCALE]
    return encoded.tobytes()


def _mu_decoded() -> NDArray[np.int16]:
    """The sample of every mu-law byte [256]: sign, 3 bits of segment, 4 bits of step, all inverted."""
    byte = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = (((byte & 0x0F) << 3) + MU_BIAS << ((byte & 0x70) >> 4)) - MU_BIAS
    return np.where(byte & 0x80, -magnitude, magnitude).astype(np.int16)


def _a_decoded() -> NDArray[np.int16]:
    """The sample of every A-law byte [256]: as mu-law, but every other bit is inverted, the first segment linear."""
    byte = np.arange(256, dtype=np.int32) ^ 0x55
    step, segment = (byte & 0x0F) << 4, (byte & 0x70) >> 4
    magnitude = np.where(segment == 0, step + 8, step + 0x108 << np.maximum(segment - 1, 0))
    return np.where(byte & 0x80, magnitude, -magnitude).astype(np.int16)


def _mu_encoded() -> NDArray[np.uint8]:
    """The mu-law byte of every int16, from -32768 up [65536]."""
    pcm = np.arange(-FULL_SCALE, FULL_SCALE)
    magnitude = np.minimum(np.abs(pcm >> 2) << 2, MU_CLIP) + MU_BIAS  # the standard's samples have 14 bits
    segment = np.floor(np.log2(magnitude)).astype(np.int32) - 7
    step = (magnitude >> (segment + 3)) & 0x0F
    encoded: NDArray[np.uint8] = (~(np.where(pcm < 0, 0x80, 0) | segment << 4 | step) & 0xFF).astype(np.uint8)
    return encoded


def _a_encoded() -> NDArray[np.uint8]:
    """The A-law byte of every int16, from -32768 up [65536]."""
    pcm = np.arange(-FULL_SCALE, FULL_SCALE)
    magnitude = np.where(pcm < 0, ~pcm, pcm)
    segment = np.maximum(np.floor(np.log2(np.maximum(magnitude, 1))).astype(np.int32) - 7, 0)
    step = (magnitude >> np.maximum(segment + 3, 4)) & 0x0F
    encoded: NDArray[np.uint8] = ((np.where(pcm < 0, 0, 0x80) | segment << 4 | step) ^ 0x55).astype(np.uint8)
    return encoded


DECODED: dict[Law, NDArray[np.int16]] = {"mu": _mu_decoded(), "a": _a_decoded()}
ENCODED: dict[Law, NDArray[np.uint8]] = {"mu": _mu_encoded(), "a": _a_encoded()}

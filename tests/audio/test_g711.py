"""G.711 against Python's own ``audioop`` where it still exists, and against the standard's known values."""

import sys
import warnings

import numpy as np
import pytest

from icebreaker.audio.g711 import DECODED, decode_g711, encode_g711

EVERY_BYTE = bytes(range(256))
EVERY_SAMPLE = np.arange(-32768, 32768).astype(np.int16)


@pytest.mark.parametrize(("law", "byte", "sample"), [
    ("mu", 0xFF, 0), ("mu", 0x00, -32124), ("mu", 0x80, 32124), ("a", 0xD5, 8), ("a", 0x55, -8), ("a", 0xAA, 32256),
])  # fmt: skip
def test_known_values(law, byte: int, sample: int) -> None:
    assert DECODED[law][byte] == sample


@pytest.mark.parametrize("law", ["mu", "a"])
def test_every_byte_comes_back(law) -> None:
    back = encode_g711(decode_g711(EVERY_BYTE, law), law)
    odd = {(a, b) for a, b in zip(EVERY_BYTE, back, strict=True) if a != b}
    assert odd <= {(0x7F, 0xFF)}  # mu-law has two zeros


@pytest.mark.parametrize("law", ["mu", "a"])
def test_the_error_is_a_small_part_of_the_sample(law) -> None:
    samples = EVERY_SAMPLE.astype(np.float32) / 32768
    decoded = decode_g711(encode_g711(samples, law), law)
    inside = np.abs(samples) < 32000 / 32768
    assert np.all(np.abs(decoded - samples)[inside] <= np.maximum(np.abs(samples)[inside] / 16, 16 / 32768))


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="audioop left the standard library")
@pytest.mark.parametrize("law", ["mu", "a"])
def test_equals_audioop(law) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import audioop
    encode, decode = (audioop.lin2ulaw, audioop.ulaw2lin) if law == "mu" else (audioop.lin2alaw, audioop.alaw2lin)
    assert DECODED[law].tobytes() == decode(EVERY_BYTE, 2)
    ours = encode_g711(EVERY_SAMPLE.astype(np.float32) / 32768, law)
    assert ours == encode(EVERY_SAMPLE.tobytes(), 2)

"""The official wave-out, piece by piece against what the official implementation emitted."""

from dataclasses import dataclass

import pytest
import torch
from codec_golden import expected, official_codec
from torch import Tensor

from icebreaker.models.codec_overlap import OfficialWaveOut, low_energy_cut, official_pcm


@dataclass(frozen=True, kw_only=True)
class Settings:
    first_chunk: int = 20
    chunk: int = 40
    overlap: int = 10
    window: int = 2401
    first_threshold: float = 0.1
    threshold: float = 0.01
    trim_start: bool = False


def wave_out(settings: Settings) -> OfficialWaveOut:
    return OfficialWaveOut(official_codec(), None, settings)


CASES = {
    "a": (False, Settings()), "b": (True, Settings()), "c": (False, Settings()), "d": (False, Settings()),
    "e": (False, Settings(threshold=0.0)), "f": (False, Settings()), "g": (False, Settings()),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_pieces_match_the_official_stream(case: str, step: int) -> None:
    golden = expected("expected/codec_stream.npz")
    first, settings = CASES[case]
    out, codes, pieces = wave_out(settings), golden[f"{case}_tokens"].tolist(), list[Tensor]()
    state = out.initial_state(first)
    for start in range(0, len(codes), step):
        new, state = out.push(codes[start : start + step], state)
        pieces += new
    new, state = out.push([], state, last=True)
    pieces += new
    assert [len(piece) for piece in pieces] == golden[f"{case}_lens"].tolist()
    waveform = torch.cat([torch.zeros(0), *pieces])
    torch.testing.assert_close(waveform, golden[f"{case}_wav"], atol=1e-5, rtol=0)
    assert out.push([], state, last=True)[0] == []


def test_low_energy_cut_is_exact() -> None:
    golden = expected("expected/low_energy_cut.npz")
    for i in range(int(golden["count"])):
        case = {name: golden[f"{i}_{name}"] for name in ("sig", "buf", "N", "th", "out", "emitted", "newbuf")}
        emitted, carry = low_energy_cut(case["sig"], case["buf"], int(case["N"]), float(case["th"]))
        assert (emitted is not None) == bool(case["emitted"])
        assert torch.equal(case["out"], torch.zeros(0) if emitted is None else emitted)
        assert torch.equal(case["newbuf"], carry)
    with pytest.raises(ValueError, match="at least 601 samples"):
        low_energy_cut(torch.zeros(600), torch.zeros(0), 601, 0.1)


def test_first_packet_starts_at_the_first_sound() -> None:
    codes = expected("expected/codec_stream.npz")["a_tokens"].tolist()
    plain, trimmed = wave_out(Settings()), wave_out(Settings(trim_start=True))
    whole, _ = plain.push(codes, plain.initial_state(True), last=True)
    cut, state = trimmed.push(codes, trimmed.initial_state(True), last=True)
    start = int((whole[0].abs() > 0.03).nonzero()[0])
    assert torch.equal(cut[0], whole[0][start:])
    assert all(torch.equal(a, b) for a, b in zip(cut[1:], whole[1:], strict=True))
    assert not state.untrimmed


def test_pcm_truncates_and_wraps() -> None:
    packed = official_pcm(torch.tensor([0.0, 0.99999, -0.99999, 1.0, -1.0, 1.9 / 32768, -1.9 / 32768]))
    assert packed.tolist() == [0, 32767, -32767, -32768, -32768, 1, -1]

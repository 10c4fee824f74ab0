from collections.abc import Sequence

import pytest
import torch
from omni_golden import arrays, omni_parts
from torch import Tensor

from icebreaker.models.unit_wave import UnitWaveOut, WaveRule


def spoken(rule: WaveRule, bounds: Sequence[Sequence[int]]) -> list[Tensor]:
    units, out = arrays("g6_vocoder")["units"].tolist(), UnitWaveOut(omni_parts().vocoder, rule)
    state, pieces = out.initial_state(), []
    for start, stop in bounds:
        piece, state = out.push(units[start:stop], state, last=stop == len(units))
        pieces.append(piece)
    return pieces


@pytest.mark.parametrize("omega", [10, 40])
def test_chunks_alone_match_the_official_ones(omega: int) -> None:
    golden, vocoder = arrays("g6_vocoder_chunks"), omni_parts().vocoder
    bounds = golden[f"omega{omega}_bounds"].tolist()
    pieces = spoken("independent", bounds)
    assert [len(piece) for piece in pieces] == golden[f"omega{omega}_len_dur"].tolist()
    torch.testing.assert_close(torch.cat(pieces), golden[f"omega{omega}_wav_dur"], atol=1e-4, rtol=0)
    units = arrays("g6_vocoder")["units"]
    with torch.inference_mode():
        plain = [vocoder.decode(units[None, start:stop])[0] for start, stop in bounds]
    assert [len(piece) for piece in plain] == golden[f"omega{omega}_len_nodur"].tolist()
    torch.testing.assert_close(torch.cat(plain), golden[f"omega{omega}_wav_nodur"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("chunk", [1, 2, 7, 135])
def test_the_exact_rule_equals_the_whole_to_the_sample(chunk: int) -> None:
    bounds = [(start, min(135, start + chunk)) for start in range(0, 135, chunk)]
    torch.testing.assert_close(torch.cat(spoken("exact", bounds)), arrays("g6_vocoder")["wav_dur"], atol=1e-4, rtol=0)


def test_cross_faded_chunks_hold_back_20_ms_and_lose_nothing() -> None:
    bounds = arrays("g6_vocoder_chunks")["omega10_bounds"].tolist()
    alone, faded = spoken("independent", bounds), spoken("crossfade", bounds)
    assert len(faded[0]) == len(alone[0]) - 320
    torch.testing.assert_close(faded[0], alone[0][:-320])
    assert sum(map(len, faded)) % 320 == 0


def test_a_chunk_fades_in_over_what_was_held_back() -> None:
    bounds = arrays("g6_vocoder_chunks")["omega10_bounds"].tolist()
    held, faded = spoken("independent", bounds)[0][-320:], spoken("crossfade", bounds)[1]
    units, vocoder = arrays("g6_vocoder")["units"], omni_parts().vocoder
    known = units[bounds[0][1] - 8 : bounds[1][1]]
    durations = torch.cat(
        [vocoder.durations(units[None, : bounds[0][1]])[0][-8:], vocoder.durations(known[None])[0, 8:]]
    )
    again = vocoder(known, durations)[int(durations[:8].sum()) * 320 - 320 :].detach()
    rise = (torch.arange(320) + 0.5) / 320
    torch.testing.assert_close(faded[:320], held * (1 - rise) + again[:320] * rise, atol=1e-5, rtol=0)
    torch.testing.assert_close(faded[320:], again[320:-320], atol=1e-5, rtol=0)


@pytest.mark.parametrize("rule", ["independent", "crossfade", "exact"])
def test_no_units_are_no_sound_and_the_end_brings_out_the_rest(rule: WaveRule) -> None:
    out = UnitWaveOut(omni_parts().vocoder, rule)
    silent, state = out.push([], out.initial_state(), last=True)
    assert len(silent) == 0
    units = arrays("g6_vocoder")["units"][:20].tolist()
    first, state = out.push(units, state, last=False)
    held = out.held_samples(state)
    rest, fresh = out.push([], state, last=True)
    total = int(omni_parts().vocoder.durations(torch.tensor([units])).sum()) * 320
    assert len(first) + len(rest) == total
    assert held >= (out.stream.delay_samples if rule == "exact" else len(rest))
    assert fresh.units == ()


def test_an_unknown_unit_is_refused() -> None:
    out = UnitWaveOut(omni_parts().vocoder)
    with pytest.raises(ValueError, match="expected units from 0 to 99"):
        out.push([100], out.initial_state(), last=False)

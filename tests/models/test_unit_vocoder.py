import pytest
import torch
from omni_golden import arrays, omni_parts

from icebreaker.models.unit_vocoder import UnitVocoder, UnitVocoderConfig


@torch.inference_mode()
def test_vocoder_matches_the_official_one() -> None:
    vocoder, golden = omni_parts().vocoder, arrays("g6_vocoder")
    units = golden["units"]
    torch.testing.assert_close(vocoder.log_durations(units[None])[0], golden["log_dur"], atol=1e-4, rtol=0)
    assert vocoder.durations(units[None])[0].tolist() == golden["durations"].tolist()
    assert vocoder.durations(golden["short_units"][None])[0].tolist() == golden["short_durations"].tolist()
    for name, waveform in {
        "wav_dur": vocoder(units),
        "wav_nodur": vocoder.decode(units[None])[0],
        "short_wav_dur": vocoder(golden["short_units"]),
        "short_wav_nodur": vocoder.decode(golden["short_units"][None])[0],
        "one_wav_dur": vocoder(golden["one_units"]),
        "one_wav_nodur": vocoder.decode(golden["one_units"][None])[0],
        "neg_wav_dur": vocoder(golden["neg_units"]),
    }.items():
        torch.testing.assert_close(waveform, golden[name], atol=1e-4, rtol=0, msg=name)


def test_no_unit_is_no_sound() -> None:
    assert omni_parts().vocoder(torch.tensor([-1, -1])).shape == (0,)


def test_published_size() -> None:
    with torch.device("meta"):
        vocoder = UnitVocoder(UnitVocoderConfig())
    assert sum(weight.numel() for weight in vocoder.parameters()) == 13_475_010
    assert vocoder.config.hop_length == 320


def test_an_unknown_unit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected units from 0 to 99, got 3 to 100; use the vocoder"):
        omni_parts().vocoder(torch.tensor([3, 100]))


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="duration_kernel_size must be 3"):
        UnitVocoderConfig(duration_kernel_size=5)
    with pytest.raises(ValueError, match="even and not negative"):
        UnitVocoderConfig(upsample_kernel_sizes=(10, 8, 8, 4, 4))

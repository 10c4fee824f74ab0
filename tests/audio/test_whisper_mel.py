import pytest
import torch
from omni_golden import arrays, waveform

from icebreaker.audio.whisper_mel import MAX_SAMPLES, MEL_FRAMES, WhisperMel, slaney_filters


def test_filters_are_the_official_ones() -> None:
    torch.testing.assert_close(slaney_filters(128).T, arrays("g1_mel")["mel_filters_128"], atol=1e-7, rtol=0)


@pytest.mark.parametrize("case", ["a", "b"])
def test_features_match_the_official_ones(case: str) -> None:
    mel = WhisperMel()(waveform(case)[None])[0]
    torch.testing.assert_close(mel, arrays("g1_mel")[f"mel_{case}"], atol=2e-4, rtol=0)


def test_eighty_mels_have_unit_area_each_and_see_a_tone_in_one_place() -> None:
    filters = slaney_filters(80)
    assert filters.shape == (201, 80)
    areas = filters[:, 60:].sum(0) * 40.0  # bins are 40 Hz apart
    torch.testing.assert_close(areas, torch.ones(20), atol=0.05, rtol=0)
    tone = torch.sin(2 * torch.pi * 1000.0 / 16000 * torch.arange(16000))
    mel = WhisperMel(80)(tone[None])[0]
    assert mel.shape == (MEL_FRAMES, 80)
    peak = int(slaney_filters(80)[25].argmax())  # 1000 Hz is bin 25
    assert int(mel[50].argmax()) == peak
    assert float(mel.max() - mel.min()) <= 2.0


def test_rows_of_a_batch_do_not_meet() -> None:
    quiet, loud = 0.01 * torch.randn(8000), torch.randn(8000)
    together = WhisperMel()(torch.stack([quiet, loud]))
    torch.testing.assert_close(together[0], WhisperMel()(quiet[None])[0])


def test_more_than_thirty_seconds_is_refused_not_cut() -> None:
    with pytest.raises(ValueError, match=r"at most 480000 samples .*cut it into windows"):
        WhisperMel()(torch.zeros(1, MAX_SAMPLES + 1))

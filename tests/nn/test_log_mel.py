"""Mel filters and log-mel spectrograms of the codec."""

import math

import torch

from icebreaker.nn.log_mel import FLOOR, LogMel, mel_filters


def test_filters_peak_at_evenly_spaced_mels() -> None:
    filters = mel_filters(24_000, 2048, 40)
    assert filters.shape == (1025, 40)
    assert filters.min() == 0
    assert filters.max() <= 1
    peaks = filters.argmax(dim=0) * 24_000 / 2048
    mels = 2595 * torch.log10(1 + peaks / 700)
    step = 2595 * math.log10(1 + 12_000 / 700) / 41
    torch.testing.assert_close(mels[4:].diff(), torch.full((35,), step), atol=0.25 * step, rtol=0)


def test_a_tone_lights_its_band_and_silence_none() -> None:
    log_mel = LogMel(24_000, 1024, 150, 80)
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(24_000) / 24_000)[None]
    features = log_mel(tone)
    assert features.shape == (1, 80, 160)
    assert int(features[0, :, 80].argmax()) == int(log_mel.filters[round(1000 / 24_000 * 1024)].argmax())
    assert torch.equal(log_mel(torch.zeros(2, 1500)), torch.full((2, 80, 10), math.log(FLOOR)))


def test_frames_are_centred_on_their_hops() -> None:
    log_mel = LogMel(24_000, 1024, 150, 80)
    click = torch.zeros(1, 3000)
    click[0, 150 * 9 + 75] = 1.0
    energy = log_mel.magnitude(click).sum(dim=1)[0]
    assert int(energy.argmax()) == 9
    torch.testing.assert_close(energy[8], energy[10], rtol=0.01, atol=0)

from pathlib import Path

import numpy as np
import pytest
import torch
from speech import write_questions

from icebreaker.audio.fbank import Fbank, fbank
from icebreaker.data.features import (
    LEAD_FRAMES,
    TAIL_FRAMES,
    FeatureStore,
    build_features,
    channel_statistics,
    features_of,
)
from icebreaker.errors import DataError
from icebreaker.training.ctc import CHARACTERS, ctc_loss, greedy_text, spelled, spelling
from icebreaker.training.error_rate import edit_distance, error_rates
from icebreaker.training.feature_augment import (
    FeatureAugmentConfig,
    augment,
    coloured_noise,
    reverberant,
    smoothed,
)
from icebreaker.training.spec_augment import SpecAugmentConfig, spec_augment


def test_framing_is_the_streaming_one() -> None:
    waveform = np.random.default_rng(0).normal(0, 0.1, 3200).astype(np.float32)
    padded = torch.from_numpy(np.concatenate([np.zeros(240, np.float32), waveform]))
    assert features_of(waveform, Fbank()).shape == (20, 80)
    torch.testing.assert_close(features_of(waveform, Fbank()), fbank(padded[None])[0])


def test_stored_recordings_have_silence_around_the_speech(tmp_path: Path) -> None:
    manifest, folder = map(Path, write_questions(tmp_path))
    store = FeatureStore(manifest, folder)
    assert len(store.select(["valid"])) == 4
    assert len(store.select(["train", "valid"])) == len(store.items) == 16
    row = store.select(["train"])[0]
    assert row.speech_start == LEAD_FRAMES
    assert row.frames - row.speech_end in (TAIL_FRAMES, TAIL_FRAMES - 1)
    loud = store.fbank(row, row.speech_start, row.speech_end).max(axis=1).mean()
    silent = store.fbank(row, 0, row.speech_start - 2).max(axis=1).mean()
    assert loud > silent + 5


def test_a_stopped_build_goes_on(tmp_path: Path) -> None:
    manifest, folder = map(Path, write_questions(tmp_path))
    whole = (folder / "frames.f16").read_bytes(), (folder / "rows.jsonl").read_text()
    lines = whole[1].splitlines(keepends=True)
    (folder / "rows.jsonl").write_text("".join(lines[:5]))
    (folder / "frames.f16").write_bytes(whole[0][:-7000])
    assert build_features(manifest, folder) == len(lines)
    assert ((folder / "frames.f16").read_bytes(), (folder / "rows.jsonl").read_text()) == whole


def test_missing_features_name_the_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no stored features"):
        FeatureStore(tmp_path / "manifest.jsonl", tmp_path)


def test_augment_changes_only_what_it_is_told() -> None:
    log_mel, rng = np.random.default_rng(1).normal(8, 2, (100, 80)).astype(np.float32), np.random.default_rng(0)
    same, stretch = augment(log_mel, FeatureAugmentConfig(), rng)
    assert stretch == 1
    np.testing.assert_array_equal(same, log_mel)
    louder, _ = augment(log_mel, FeatureAugmentConfig(gain=1.0, gain_db=(6.0, 6.0)), rng)
    np.testing.assert_allclose(louder - log_mel, 0.6 * np.log(10), atol=1e-5)
    longer, stretch = augment(log_mel, FeatureAugmentConfig(speed=1.0), rng)
    assert len(longer) == round(100 * stretch) != 100
    narrow, _ = augment(log_mel, FeatureAugmentConfig(band=1.0), rng)
    np.testing.assert_array_equal(narrow[:, 12:52], log_mel[:, 12:52])
    assert (narrow[:, 76:] < log_mel[:, 76:] - 5).all()
    tinted, _ = augment(log_mel, FeatureAugmentConfig(tone=1.0, tone_db=6.0), rng)
    curve = tinted - log_mel
    assert np.allclose(curve, curve[:1], atol=1e-4)  # the same for every frame,
    assert 1.0 < curve[0].std() * 10 / np.log(10) < 12.0  # of about so many decibels,
    assert abs(float(curve[0].mean())) < 1e-3  # and no louder
    noisy, _ = augment(log_mel, FeatureAugmentConfig(noise=1.0, snr_db=(0.0, 0.0)), rng)
    assert noisy.mean() > log_mel.mean() + 0.2
    assert (noisy < log_mel - 3).mean() < 0.01  # two sounds seldom cancel out


def test_texture_changes_the_grain_and_not_the_sentence() -> None:
    """Roughness, sharpness and depth differ from draw to draw; what is loud stays loud, and an average stays."""
    rng = np.random.default_rng(0)
    ramp = np.add.outer(np.sin(np.arange(100) / 9), np.cos(np.arange(80) / 7)).astype(np.float32) * 3
    draws = [augment(ramp, FeatureAugmentConfig(texture=1.0), rng)[0] for _ in range(40)]
    assert all(draw.dtype == np.float32 and draw.shape == ramp.shape for draw in draws)
    likeness = [np.corrcoef(draw.ravel(), ramp.ravel())[0, 1] for draw in draws]
    assert 0.9 < min(likeness) < 0.995 < max(likeness)
    assert max(abs(float((draw - ramp).mean())) for draw in draws) < 0.05
    grain = [float(np.abs(np.diff(draw, 2, axis=0)).mean()) for draw in draws]
    assert max(grain) > 4 * min(grain)
    np.testing.assert_allclose(smoothed(ramp[:1], 0), ramp[:1], atol=1e-6)  # one frame has no neighbours
    spike = np.zeros((9, 80), np.float32)
    spike[4] = 16
    np.testing.assert_array_equal(smoothed(spike, 0)[:, 0], [0, 0, 1, 4, 6, 4, 1, 0, 0])


def test_reverberation_decays_by_60_db_in_the_named_time() -> None:
    click = np.full((40, 80), -15.0, np.float32)
    click[5] = 10.0
    wet = reverberant(click, 20.0, 0.0)
    np.testing.assert_allclose(wet[:6], click[:6], atol=1.0)
    np.testing.assert_allclose(wet[15, 0] - wet[25, 0], np.log(1e6) / 2, atol=1e-2)


def test_channel_statistics_normalise() -> None:
    frames = np.random.default_rng(0).normal(5, 2, (500, 80))
    mean, istd = channel_statistics(iter([frames[:200], frames[200:]]))
    normal = (frames - mean) * istd
    np.testing.assert_allclose(normal.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(normal.std(axis=0), 1, atol=1e-9)


def test_spec_augment_hides_what_it_says() -> None:
    fbank_batch, fill = torch.ones(200, 50, 80), torch.full((80,), -7.0)
    config = SpecAugmentConfig(frequency_masks=0, time_masks=1, max_frames=20)
    lengths = torch.full((200,), 40)
    hidden = spec_augment(fbank_batch, lengths, fill, config, np.random.default_rng(0)) == -7
    assert torch.equal(hidden.any(dim=2), hidden.all(dim=2))  # whole frames
    widths = hidden.all(dim=2).sum(dim=1)
    assert (int(widths.min()), int(widths.max())) == (0, 20)
    assert not hidden[:, 40:].any()
    config = SpecAugmentConfig(frequency_masks=1, time_masks=0, max_bins=10)
    hidden = spec_augment(fbank_batch, lengths, fill, config, np.random.default_rng(0)) == -7
    bins = hidden[:, :40].all(dim=1).sum(dim=1)
    assert torch.equal(bins, hidden[:, 0].sum(dim=1))
    assert (int(bins.min()), int(bins.max())) == (0, 10)
    assert torch.equal(fbank_batch, torch.ones(200, 50, 80))  # the input is left alone


def test_spelling_round_trip() -> None:
    ids = spelling("It's Day 2!")
    assert "".join(CHARACTERS[i - 1] for i in ids.tolist()) == "it's day "
    assert spelled("It's Day 2!") == "it's day"


def test_greedy_text_merges_repeats_and_drops_blanks() -> None:
    path = [0, 3, 3, 0, 4, 4, 0, 4, 1, 1, 3]  # a a _ b b _ b ' ' ' ' a
    logits = torch.nn.functional.one_hot(torch.tensor([path]), 29).float()
    assert greedy_text(logits, torch.tensor([11])) == ["abb a"]
    assert greedy_text(logits, torch.tensor([3])) == ["a"]


def test_ctc_loss_is_the_negative_log_likelihood_per_symbol() -> None:
    logits = torch.zeros(1, 2, 3)  # two frames, uniform over three symbols
    # "1" can be read as 11, 01, 10: three of nine paths
    assert float(ctc_loss(logits, torch.tensor([2]), [torch.tensor([1])])) == pytest.approx(np.log(3))


def test_error_rates() -> None:
    assert edit_distance("kitten", "sitting") == 3
    rates = error_rates(["the cat sat", "hello"], ["the cat", "hallo"])
    assert rates["wer"] == pytest.approx(2 / 4)
    assert rates["cer"] == pytest.approx((4 + 1) / 16)


def test_noise_has_the_colours_of_rooms_fans_and_lines() -> None:
    """Pink noise rises by 6 over the mel bins, white by 11; half of what is drawn lies on either side of 4."""
    rng = np.random.default_rng(0)
    drawn = [coloured_noise((400, 80), -3.0, rng) for _ in range(300)]
    rises = [float(noise[:, -8:].mean() - noise[:, :8].mean()) for noise in drawn]
    assert np.mean(rises) == pytest.approx(3.6, abs=0.5)
    assert min(rises) < -2
    assert max(rises) > 8
    loudest = [float(np.log(np.exp(noise).mean(axis=0)).max()) for noise in drawn]
    assert np.median(loudest) == pytest.approx(-3.0, abs=0.6)  # the level drifts


def test_babble_is_other_speech_so_many_decibels_below() -> None:
    speech = np.full((50, 80), -12.0, np.float32)
    speech[10:30] = 2.0
    one = np.full((7, 80), -14.0, np.float32)
    one[3] = 5.0  # loud for a frame of seven
    config = FeatureAugmentConfig(babble=1.0, babble_db=(10.0, 10.0))
    said, stretch = augment(speech, config, np.random.default_rng(3), other=lambda: one)
    level = 2.0 - 10 * np.log(10) / 10
    assert stretch == 1.0
    assert np.log(np.exp(said[10:30]).mean()) == pytest.approx(np.logaddexp(2.0, level), abs=0.12)
    silent = np.r_[said[:10], said[30:]]
    assert level - 1e-4 <= silent.max() <= level + np.log(16) + 1e-4  # four talkers in phase
    assert 1 / 7 - 0.1 < (silent.mean(axis=1) > level - 1).mean() <= 4 / 7 + 0.1
    assert np.array_equal(augment(speech, config, np.random.default_rng(3))[0], speech)  # nobody else is there

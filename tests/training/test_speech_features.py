from pathlib import Path

import numpy as np
import pytest
import torch
from speech import write_questions

from icebreaker.audio.fbank import fbank
from icebreaker.errors import DataError
from icebreaker.training.ctc import CHARACTERS, ctc_loss, greedy_text, spelled, spelling
from icebreaker.training.error_rate import edit_distance, error_rates
from icebreaker.training.spec_augment import SpecAugmentConfig, spec_augment
from icebreaker.training.speech_features import (
    LEAD_FRAMES,
    TAIL_FRAMES,
    FeatureStore,
    channel_statistics,
    features_of,
    merge_features,
)


def test_framing_is_the_streaming_one() -> None:
    waveform = np.random.default_rng(0).normal(0, 0.1, 3200).astype(np.float32)
    padded = torch.from_numpy(np.concatenate([np.zeros(240, np.float32), waveform]))
    assert features_of(waveform).shape == (20, 80)
    torch.testing.assert_close(features_of(waveform), fbank(padded[None])[0])


def test_stored_copies_have_silence_around_the_speech(tmp_path: Path) -> None:
    manifest, folder = map(Path, write_questions(tmp_path))
    store = FeatureStore(manifest, folder)
    assert len(store.select(["valid"])) == 4  # one clean copy each
    assert len(store.select(["train"])) == 2 * len(store.select(["train"], clean_only=True))
    clean, quiet = store.select(["train"])[:2]
    assert (clean.copy, quiet.copy) == (0, 1)
    assert clean.speech_start == LEAD_FRAMES
    assert clean.frames - clean.speech_end in (TAIL_FRAMES - 1, TAIL_FRAMES)
    loud = store.fbank(clean, clean.speech_start, clean.speech_end).max(axis=1).mean()
    silent = store.fbank(clean, 0, clean.speech_start - 2).max(axis=1).mean()
    assert loud > silent + 5
    halved = store.fbank(quiet, quiet.speech_start, quiet.speech_start + 8).max(axis=1)
    whole = store.fbank(clean, clean.speech_start, clean.speech_start + 8).max(axis=1)
    np.testing.assert_allclose(whole - halved, 2 * np.log(2), atol=0.05)  # half the amplitude, a quarter of the energy


def test_merged_parts_read_as_one(tmp_path: Path) -> None:
    manifest, folder = map(Path, write_questions(tmp_path))
    merge_features([folder, folder], tmp_path / "merged")
    store, merged = FeatureStore(manifest, folder), FeatureStore(manifest, tmp_path / "merged")
    count = len(store.rows)
    assert len(merged.rows) == 2 * count
    np.testing.assert_array_equal(merged.fbank(merged.rows[count + 3], 0, 9), store.fbank(store.rows[3], 0, 9))


def test_missing_features_name_the_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no stored features"):
        FeatureStore(tmp_path / "manifest.jsonl", tmp_path)


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

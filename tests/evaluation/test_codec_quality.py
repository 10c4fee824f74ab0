from collections import Counter

import numpy as np
import pytest

from icebreaker.evaluation.codec_quality import compare, perplexity


def test_perplexity() -> None:
    assert perplexity(Counter({3: 5, 7: 5, 9: 5, 11: 5})) == pytest.approx(4.0)
    assert perplexity(Counter({3: 12})) == pytest.approx(1.0)
    assert perplexity({0: 1, 1: 3}) == pytest.approx(2 ** (0.25 * 2 + 0.75 * np.log2(4 / 3)))


def test_more_noise_is_worse() -> None:
    rng = np.random.default_rng(0)
    envelope = np.repeat(rng.uniform(0, 1, 80), 300)
    real = (0.3 * envelope * rng.standard_normal(24_000)).astype(np.float32)
    noise = rng.standard_normal(24_000).astype(np.float32)
    same, little, much = (compare(real, real + level * noise, 16_000, pesq=False) for level in (0, 0.01, 0.3))
    assert same["mel_distance"] == 0
    assert same["stoi"] == pytest.approx(1.0)
    assert 0 < little["mel_distance"] < much["mel_distance"]
    assert little["stoi"] > much["stoi"]
    assert same["pesq_wb"] is None


def test_pesq_of_the_same_is_the_best() -> None:
    pytest.importorskip("pesq")
    rng = np.random.default_rng(1)
    tone = np.sin(2 * np.pi * 440 * np.arange(32_000) / 16_000) * np.repeat(rng.uniform(0, 0.5, 20), 1600)
    assert compare(tone.astype(np.float32), tone.astype(np.float32), 16_000)["pesq_wb"] == pytest.approx(4.64, abs=0.02)

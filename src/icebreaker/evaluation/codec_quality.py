"""What the codec loses: mel distance, PESQ, STOI, and how evenly its codes are used."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from icebreaker.extras import load_extra
from icebreaker.models.codec import Codec
from icebreaker.training.codec_losses import SpectralLoss

__all__ = ["compare", "perplexity", "reconstruct"]

PESQ_RATE = 16_000


@torch.inference_mode()
def reconstruct(codec: Codec, waveform: NDArray[np.float32]) -> tuple[NDArray[np.float32], list[int]]:
    """``waveform`` [S] at the codec's rate through codes and back, and the codes of its first codebook."""
    device = next(codec.parameters()).device
    codes, _ = codec.encode(torch.from_numpy(waveform)[None].to(device))
    made = codec.decode(codes)[0].float().cpu().numpy()
    return made, codes.flatten().tolist()


def compare(
    real: NDArray[np.float32], made: NDArray[np.float32], sample_rate: int, *, pesq: bool = True
) -> dict[str, float | None]:
    """How far ``made`` is from ``real``, [S] each: log-mel L1 (nat), wide-band PESQ (1 to 4.64), STOI (0 to 1).

    PESQ is ``None`` where it is not wanted or finds no speech.
    """
    length = min(len(real), len(made))
    real, made = real[:length], made[:length]
    pair = [torch.from_numpy(np.ascontiguousarray(each))[None] for each in (made, real)]
    return {
        "mel_distance": float(SpectralLoss(sample_rate)(*pair)[0]),
        "stoi": float(load_extra("pystoi").stoi(real, made, sample_rate)),
        "pesq_wb": _pesq(real, made, sample_rate) if pesq else None,
    }


def perplexity(uses: Counter[int] | Mapping[int, int]) -> float:
    """Two to the entropy of the codes' frequencies: as many codes, evenly used, would say as much."""
    counts = np.array(list(uses.values()), dtype=np.float64)
    shares = counts / counts.sum()
    return float(2 ** -(shares * np.log2(shares)).sum())


def _pesq(real: NDArray[np.float32], made: NDArray[np.float32], sample_rate: int) -> float | None:
    pesq: Any = load_extra("pesq")
    pair = [soxr.resample(each, sample_rate, PESQ_RATE) for each in (real, made)]
    try:
        return float(pesq.pesq(PESQ_RATE, *pair, "wb"))
    except (pesq.NoUtterancesError, pesq.BufferTooShortError):
        return None

"""A whole segment at once: prefill, then codes until eos. Knows nothing of dialogues or audio."""

import torch
from torch import Tensor

from icebreaker.models.codec_lm import CodecLM, CodecLMConfig, CodecLMState
from icebreaker.models.sampling import SamplingConfig, sample

__all__ = ["generate", "mask_special"]


def mask_special(logits: Tensor, config: CodecLMConfig) -> Tensor:
    """``logits`` [B, codes + 4] with bos, sos and pad ruled out; the official implementation lets them be drawn."""
    special = torch.tensor([config.bos, config.sos, config.pad], device=logits.device)
    return logits.index_fill(-1, special, -torch.inf)


@torch.no_grad()
def generate(
    model: CodecLM,
    state: CodecLMState,
    sampling: SamplingConfig,
    max_codes: int,
    generator: torch.Generator | None = None,
    *,
    masked: bool = True,
) -> list[Tensor]:
    """Codes of every row [n_b], without eos.

    Args:
        model: in eval mode.
        state: from ``prefill``; rows of length 0 are idle and yield nothing.
        sampling: how to draw.
        max_codes: where a row stops that does not end by itself.
        generator: of the draws.
        masked: rule out bos, sos and pad.
    """
    config = model.config
    active = state.length > 0
    history = torch.full((len(active), 1), config.sos, device=active.device)
    for _ in range(max_codes + 1):
        logits, state = model.step(history[:, -1].clamp(min=0), state, active)
        codes = sample(mask_special(logits, config) if masked else logits, sampling, history, generator)
        active = active & (codes != config.eos)
        if not active.any() or history.shape[1] > max_codes:
            break
        history = torch.cat([history, codes.where(active, -1)[:, None]], dim=1)
    return [row[row >= 0] for row in history[:, 1:]]

"""Which frame may look at which, and which frames are real. Knows nothing of layers."""

import torch
from torch import Tensor

__all__ = ["additive", "chunk_mask", "draw_chunks", "padding_mask"]


def padding_mask(lengths: Tensor, frames: int) -> Tensor:
    """[B, frames], true on the first ``lengths[b]`` frames of row b."""
    return torch.arange(frames, device=lengths.device) < lengths.unsqueeze(1)


def chunk_mask(queries: Tensor, keys: Tensor, chunk_size: int, left_chunks: int) -> Tensor:
    """[Q, K], true where a query frame may see a key frame.

    Frame i sees all of its own chunk and ``left_chunks`` chunks before it.

    Args:
        queries: [Q] frame numbers counted from any chunk border.
        keys: [K] frame numbers on the same count; negative ones are earlier.
        chunk_size: frames in a chunk; 0 or less hides nothing.
        left_chunks: earlier chunks in sight; negative: all.
    """
    if chunk_size <= 0:
        return torch.ones(len(queries), len(keys), dtype=torch.bool, device=queries.device)
    query_chunk = queries.div(chunk_size, rounding_mode="floor").unsqueeze(1)
    key_chunk = keys.div(chunk_size, rounding_mode="floor").unsqueeze(0)
    visible = key_chunk <= query_chunk
    return visible if left_chunks < 0 else visible & (key_chunk >= query_chunk - left_chunks)


def draw_chunks(frames: int, generator: torch.Generator) -> tuple[int, int]:
    """A random (chunk size, left chunks) for training on ``frames`` frames; chunk size 0 means full context.

    About half of the draws give the full context, the rest chunks of 1 to 25 frames (official implementation).
    """

    def uniform(low: int, high: int) -> int:  # high is left out
        return int(torch.randint(low, max(high, low + 1), (), generator=generator, device=generator.device))

    drawn = uniform(1, frames)
    if drawn > frames // 2:
        return 0, -1
    chunk_size = drawn % 25 + 1
    return chunk_size, uniform(0, (frames - 1) // chunk_size)


def additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Attention scores to add: 0 where ``mask`` is true, minus infinity elsewhere."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, float("-inf"))

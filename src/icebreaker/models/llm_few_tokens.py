"""A frozen LLM's step of a few tokens, in NumPy, on a CPU: a small one's, or one whose layers are packed.

Knows nothing of turns or sampling.

For decoders of Llama's and Qwen2's build. Whether a model is one is found out by trying: what the plain forward says
decides, so a variant that this file does not know is left to it.
"""

import logging

import numpy as np
import torch
from torch import Tensor, nn

from icebreaker.models.kv_cache import KVCache
from icebreaker.models.llm import LLM
from icebreaker.nn.few_tokens import Array, FewTokens, Layer, Spots, array_of, fits, norm, pays
from icebreaker.nn.matrix import Product, product_of

__all__ = ["LLMFewTokens", "few_tokens_of"]

MOST_TOKENS = 16  # more are a matrix product, which torch does faster
TOLERANCE = 1e-3  # of hidden states, which are of order 1
PROBED = 3  # tokens

logger = logging.getLogger(__name__)


class LLMFewTokens:
    """What ``LLM.forward`` does, for few tokens; see ``LLM.ticks``."""

    def __init__(self, llm: LLM, stack: FewTokens, norm: Array, head: Product, rotary: nn.Module) -> None:
        self.llm, self.stack, self.norm, self.head, self.rotary = llm, stack, norm, head, rotary
        self._cos = self._sin = np.zeros((0, stack.head_dim), np.float32)  # by position

    def __call__(self, embeddings: Tensor, cache: KVCache, lengths: Tensor, read_length: int) -> Tensor | None:
        """Append ``lengths[b]`` positions to row b of ``cache``, which is written in place.

        Args:
            embeddings: [B, L, D].
            cache: of these rows.
            lengths: [B], 0 for an idle row.
            read_length: positions of the longest row, the new ones included.

        Returns:
            [B, L, D] hidden states, zero where nothing was fed; None: these are too many, or the model is elsewhere or
            in another precision by now.
        """
        counts, starts = lengths.tolist(), cache.length.tolist()
        if sum(counts) > MOST_TOKENS or not fits(self.llm.embedding.weight):
            return None
        if read_length > len(self._cos):
            self._turn(2 * read_length)
        rows, entries, steps = list[int](), list[int](), list[int]()
        for row, (start, count) in enumerate(zip(starts, counts, strict=True)):
            rows += [row] * count
            entries += range(start, start + count)
            steps += range(count)
        keys, values = ([layer.numpy() for layer in each] for each in (cache.keys, cache.values))
        vectors = embeddings.numpy()
        spots = Spots(keys, values, rows, entries)
        x = self.stack(vectors[rows, steps], self._cos[entries], self._sin[entries], spots)
        hidden = np.zeros_like(vectors)
        hidden[rows, steps] = norm(x, self.norm, self.stack.eps)
        return torch.from_numpy(hidden)

    def logits(self, hidden_states: Tensor) -> Tensor | None:
        """What ``LLM.logits`` does for [.., D]; None: as above."""
        vectors = hidden_states.reshape(-1, hidden_states.shape[-1])
        if len(vectors) > MOST_TOKENS or not fits(self.llm.embedding.weight):
            return None
        return torch.from_numpy(self.head(vectors.numpy())).view(*hidden_states.shape[:-1], -1)

    def _turn(self, positions: int) -> None:
        """Know the rotations of so many positions."""
        cos, sin = self.rotary(self.llm.embedding.weight, torch.arange(positions)[None])
        half = self.stack.head_dim // 2
        self._cos, self._sin = cos[0].numpy().copy(), sin[0].numpy().copy()
        self._sin[:, :half] *= -1


@torch.no_grad()
def few_tokens_of(llm: LLM) -> LLMFewTokens | None:
    """For ``llm.ticks`` and (its ``logits``) ``llm.few_logits``.

    None where the LLM is of another build, on another device, in another precision, or large and not packed.
    """
    if not fits(llm.embedding.weight) or not pays(llm.model):
        return None
    try:
        steps = _build(llm)
        vectors = llm.embed(torch.arange(2 * PROBED).reshape(2, PROBED) % llm.vocab_size)
        lengths, cache = torch.tensor([PROBED, PROBED - 1]), llm.new_cache(2, PROBED)
        wanted, _ = llm(vectors, cache, lengths)
        got = steps(vectors, llm.new_cache(2, PROBED), lengths, PROBED)
        said, read = llm.logits(wanted), steps.logits(wanted)
    except (AttributeError, ValueError, IndexError, TypeError):
        logger.debug("%s is not built like Llama; its steps stay torch's", type(llm.model).__name__)
        return None
    assert got is not None
    assert read is not None
    heard = torch.arange(PROBED) < lengths[:, None]
    close = [
        torch.allclose(a[heard], b[heard], atol=TOLERANCE, rtol=TOLERANCE) for a, b in ((got, wanted), (read, said))
    ]
    return steps if all(close) else None


def _build(llm: LLM) -> LLMFewTokens:
    config, decoder = llm.model.config, llm.model.base_model
    if not llm.attends_to_all:
        raise ValueError("windows of attention are not followed")
    size = sum(p.nbytes for p in llm.model.parameters())

    layers = []
    for layer in decoder.layers:
        attention, mlp = layer.self_attn, layer.mlp
        layers.append(
            Layer(
                attention_norm=array_of(layer.input_layernorm.weight),
                qkv=product_of((attention.q_proj, attention.k_proj, attention.v_proj), size),
                out=product_of((attention.o_proj,), size),
                mlp_norm=array_of(layer.post_attention_layernorm.weight),
                gate_up=product_of((mlp.gate_proj, mlp.up_proj), size),
                down=product_of((mlp.down_proj,), size),
            )
        )
    head_dim = decoder.layers[0].self_attn.head_dim
    stack = FewTokens(layers, config.num_attention_heads, config.num_key_value_heads, head_dim, config.rms_norm_eps)
    head = product_of((llm.model.get_output_embeddings(),), size)
    return LLMFewTokens(llm, stack, array_of(decoder.norm.weight), head, decoder.rotary_emb)

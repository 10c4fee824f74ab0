"""The speech decoder's step of one code a row, in NumPy, on a CPU. Knows nothing of sampling or of sound."""

import numpy as np
import torch
from torch import Tensor

from icebreaker.models.codec_lm import CodecLM
from icebreaker.models.codec_lm_cache import CodecLMState
from icebreaker.nn.few_tokens import FewTokens, Layer, Spots, array_of, fits, norm, pays
from icebreaker.nn.llama import LlamaLayer
from icebreaker.nn.matrix import product_of

__all__ = ["CodecLMFewTokens", "few_codes_of"]


class CodecLMFewTokens:
    """What ``CodecLM.step`` does, with the weights it has now; see ``CodecLM.ticks``."""

    def __init__(self, model: CodecLM) -> None:
        layers = [layer for layer in model.layers if isinstance(layer, LlamaLayer)]
        size = sum(p.nbytes for part in (*layers, model.head) for p in part.parameters())

        self.model = model
        self.stack = FewTokens(
            [
                Layer(
                    attention_norm=array_of(layer.attention_norm.weight),
                    qkv=product_of((layer.qkv,), size),
                    out=product_of((layer.out,), size),
                    mlp_norm=array_of(layer.mlp_norm.weight),
                    gate_up=product_of((layer.gate_up,), size),
                    down=product_of((layer.down,), size),
                )
                for layer in layers
            ],
            model.config.heads, model.config.heads, model.config.hidden // model.config.heads, layers[0].mlp_norm.eps,
        )  # fmt: skip
        self.embedding = array_of(model.embedding.weight)
        self.norm, self.head = array_of(model.norm.weight), product_of((model.head,), size)
        self._cos = self._sin = np.zeros((0, self.stack.head_dim), np.float32)  # by position

    def __call__(self, codes: Tensor, state: CodecLMState, used: int, active: Tensor | None = None) -> Tensor | None:
        """Feed one code to each active row of ``state``, whose cache is written in place at the row's ``length``.

        Args:
            codes: [b] the newest code of each row.
            state: cache and lengths of these rows.
            used: entries of the longest row, the new one included.
            active: [b] rows that take part; None: all.

        Returns:
            [b, codes + 4] logits, zero in idle rows; None: the model is elsewhere or in another precision by now.
        """
        if not fits(self.model.embedding.weight):
            return None
        busy = [True] * len(codes) if active is None else active.tolist()
        rows = [row for row, takes_part in enumerate(busy) if takes_part]
        logits = np.zeros((len(codes), self.model.config.vocab_size), np.float32)
        if rows:
            lengths, positions = (
                [each[row] for row in rows] for each in (state.length.tolist(), state.position.tolist())
            )
            if max(positions) >= len(self._cos):
                self._turn(2 * max(positions) + 1)
            keys, values = (cache.numpy().swapaxes(0, 1) for cache in (state.keys, state.values))
            spots = Spots(keys, values, rows, lengths)  # type: ignore[arg-type]  # an array is a sequence here
            x = self.stack(self.embedding[codes.numpy()[rows]], self._cos[positions], self._sin[positions], spots)
            logits[rows] = self.head(norm(x, self.norm, self.stack.eps))
        return torch.from_numpy(logits)

    def _turn(self, positions: int) -> None:
        """Know the rotations of so many positions."""
        rope = self.model.rotation(torch.arange(positions)[None])
        self._cos, self._sin = rope.cos[0, 0].numpy(), rope.sin[0, 0].numpy()


def few_codes_of(model: CodecLM) -> CodecLMFewTokens | None:
    """For ``model.ticks``; None where it is on another device, in another precision, or large and not packed."""
    return CodecLMFewTokens(model) if fits(model.embedding.weight) and pays(model) else None

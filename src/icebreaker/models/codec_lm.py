"""The speech decoder: text and LLM hidden states to codec codes (arXiv:2411.00774, speech output). Draws no samples.

Every LLM vector is cut into ``split`` vectors. Text goes through the pre-NN (bidirectional) and becomes the context
of an autoregressive Llama stack; hidden states go through prefix layers (bidirectional, too), whose keys and values
become the first cache entries of that stack. As in the official implementation, context sees the whole prefix and the
whole context, and the positions of prefix and context overlap: both start at 0, and speech follows the context.

Departures: a linear input layer where ``llm_dim / split`` is not ``hidden`` (small LLMs); loss per token, and speech
positions in training that do not depend on the padding of the batch (``padded_positions`` gives the official ones).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from icebreaker.models.codec_lm_cache import CacheWriter, CodecLMState, pack, training_mask, valid
from icebreaker.models.codec_lm_config import CodecLMConfig
from icebreaker.nn.attention import attend
from icebreaker.nn.llama import LlamaLayer, RMSNorm, Rope, rope

__all__ = ["CodecLM", "CodecLMConfig", "CodecLMState", "Stacked", "Taught"]

MAX_CODES = 1000  # of one text segment in the official implementation: 25 s


class Prefix(NamedTuple):
    """What the prefix layers leave for the autoregressive ones; [B, H, P, head_dim] per layer."""

    keys: list[Tensor]
    values: list[Tensor]
    lengths: Tensor  # [B] valid ones


class Stacked(NamedTuple):
    """What the autoregressive layers did; per layer [B, H, L, head_dim], keys and values with the prefix in front."""

    output: Tensor  # [B, L, hidden]
    queries: list[Tensor]
    keys: list[Tensor]
    values: list[Tensor]
    mask: Tensor  # [B or 1, 1, L or 1, P + L]


class Taught(NamedTuple):
    """One teacher-forced pass."""

    logits: Tensor  # [B, T + 1, codes + 4]: row t predicts code t, or eos after the last
    stacked: Stacked  # over context, then speech
    context: int  # positions of the padded context


class CodecLM(nn.Module):
    """Codes from text vectors, and from hidden states as a prefix (arXiv:2411.00774; official implementation)."""

    def __init__(self, config: CodecLMConfig) -> None:
        super().__init__()
        self.config = config
        self.text_input = _input(config)
        self.pre_nn = _layers(config, config.pre_blocks)
        self.embedding = nn.Embedding(config.vocab_size, config.hidden)
        self.layers = _layers(config, config.blocks)
        self.norm = RMSNorm(config.hidden)
        self.head = nn.Linear(config.hidden, config.vocab_size)
        if config.prefix:
            self.prefix_input = _input(config)
            self.prefix_layers = _layers(config, config.blocks)
        self.ticks: Callable[[Tensor, CodecLMState, int, Tensor | None], Tensor | None] | None = None  # a faster step

    def initial_state(self, batch: int, capacity: int) -> CodecLMState:
        """An empty cache of ``capacity`` entries for each of ``batch`` rows."""
        config = self.config
        shape = (batch, config.blocks, config.heads, capacity + 1, config.hidden // config.heads)
        keys = self.embedding.weight.new_zeros(shape)
        length = torch.zeros(batch, dtype=torch.long, device=keys.device)
        return CodecLMState(keys, torch.zeros_like(keys), length, length.clone())

    @torch.no_grad()
    def prefill(
        self,
        text: Tensor,
        text_lengths: Tensor,
        prefix: Tensor | None = None,
        prefix_lengths: Tensor | None = None,
        state: CodecLMState | None = None,
        *,
        max_codes: int = MAX_CODES,
    ) -> CodecLMState:
        """Start a segment: fill the cache with prefix and context.

        Args:
            text: [B, Lt, llm_dim] the segment's tokens, embedded by the LLM's input embedding.
            text_lengths: [B] valid tokens of each row; a row with 0 stays idle.
            prefix: [B, Lp, llm_dim] the hidden states that produced the segment, or ``None``.
            prefix_lengths: [B] valid ones.
            state: rows to start anew in place, others stay; ``None``: a new state.
            max_codes: room for codes in a new state (the first, ``sos``, not counted).

        Returns:
            the state, ready for ``step`` with ``config.sos``.

        Raises:
            ValueError: a prefix for a model without prefix layers, or a state too small.
        """
        rows = (text_lengths > 0).nonzero().squeeze(1)
        if state is None:
            longest = int(text_lengths.max()) + (0 if prefix_lengths is None else int(prefix_lengths.max()))
            state = self.initial_state(text.shape[0], self.config.split * longest + 2 + max_codes)
        if not len(rows):
            return state
        before = None
        if prefix is not None and prefix_lengths is not None:
            before = self.prefix_cache(prefix[rows], prefix_lengths[rows])
        context, lengths = self.context(text[rows], text_lengths[rows])
        counts = torch.zeros_like(lengths) if before is None else before.lengths
        if (needed := int((counts + lengths).max())) >= state.capacity:
            raise ValueError(f"expected room for more than {needed} entries, got {state.capacity}; use a larger cache")
        positions = torch.arange(context.shape[1], device=context.device)[None]
        stacked = self._stack(context, positions, valid(context.shape[1], lengths), before, cache_only=True)
        start = stacked.mask.shape[-1] - context.shape[1]
        for index in range(len(self.layers)):
            pack(state.keys[:, index], stacked.keys[index], start, rows, counts, lengths)
            pack(state.values[:, index], stacked.values[index], start, rows, counts, lengths)
        length, position = state.length.clone(), state.position.clone()
        length[rows], position[rows] = counts + lengths, lengths
        return state._replace(length=length, position=position)

    @torch.no_grad()
    def step(self, codes: Tensor, state: CodecLMState, active: Tensor | None = None) -> tuple[Tensor, CodecLMState]:
        """Feed one code to every active row.

        Args:
            codes: [B] the newest code of each row, at first ``config.sos``.
            state: from ``prefill`` or the previous call; its cache is written in place, use each value once.
            active: [B] rows that take part; ``None``: all.

        Returns:
            [B, codes + 4] logits of the next code (of no meaning in idle rows), and the next state.

        Raises:
            ValueError: an active row has no room left.
        """
        full = state.length >= state.capacity
        if bool((full if active is None else full & active).any()):
            raise ValueError(f"the cache is full at {state.capacity} entries; prefill with a larger max_codes")
        moved = 1 if active is None else active.to(state.length.dtype)
        after = state._replace(length=state.length + moved, position=state.position + moved)
        if self.ticks is not None:
            ticked = self.ticks(codes, state, int(state.length.max()) + 1, active)
            if ticked is not None:
                return ticked, after
        write = CacheWriter(state.length)
        x = self.embedding(codes)[:, None]
        rotation = self.rotation(state.position[:, None])
        for index, layer in enumerate(self.layers):
            query, key, value = layer.project(x, rotation)  # type: ignore[operator]
            seen = write(state.keys[:, index], key), write(state.values[:, index], value)
            x = layer.finish(x, attend(query, *seen, write.mask))  # type: ignore[operator]
        return self.head(self.norm(x[:, 0])), after

    def forward(
        self,
        text: Tensor,
        text_lengths: Tensor,
        codes: Tensor,
        code_lengths: Tensor,
        prefix: Tensor | None = None,
        prefix_lengths: Tensor | None = None,
        *,
        padded_positions: bool = False,
    ) -> Taught:
        """Teacher forcing, for training.

        Args:
            text: [B, Lt, llm_dim] as in ``prefill``.
            text_lengths: [B].
            codes: [B, T] codes of the answer; what lies past ``code_lengths`` is ignored.
            code_lengths: [B].
            prefix: [B, Lp, llm_dim] as in ``prefill``.
            prefix_lengths: [B].
            padded_positions: speech positions start after the *padded* context, as in the official implementation.
        """
        stacked, context = self.teach(
            text, text_lengths, codes, code_lengths, prefix, prefix_lengths, padded_positions=padded_positions
        )
        return Taught(self.head(self.norm(stacked.output[:, context:])), stacked, context)

    def teach(
        self,
        text: Tensor,
        text_lengths: Tensor,
        codes: Tensor,
        code_lengths: Tensor,
        prefix: Tensor | None = None,
        prefix_lengths: Tensor | None = None,
        *,
        padded_positions: bool = False,
        depth: int | None = None,
    ) -> tuple[Stacked, int]:
        """What the first ``depth`` layers (None: all) make of the same, and how many positions are context."""
        before = None
        if prefix is not None and prefix_lengths is not None:
            before = self.prefix_cache(prefix, prefix_lengths, depth)
        context, lengths = self.context(text, text_lengths)
        said = torch.arange(codes.shape[1], device=codes.device) < code_lengths[:, None]
        speech = F.pad(codes.where(said, self.config.pad), (1, 0), value=self.config.sos)
        x = torch.cat([context, self.embedding(speech)], dim=1)
        steps = torch.arange(x.shape[1], device=x.device)
        starts = torch.full_like(lengths, context.shape[1]) if padded_positions else lengths
        after = starts[:, None] + steps[: speech.shape[1]]
        positions = torch.cat([steps[: context.shape[1]].expand(len(x), -1), after], dim=1)
        mask = training_mask(context.shape[1], lengths, speech.shape[1])
        return self._stack(x, positions, mask, before, depth), context.shape[1]

    def context(self, text: Tensor, text_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """bos and the pre-NN's output [B, 1 + split * Lt, hidden], and their valid counts [B]."""
        x, lengths = self.pieces(text, self.text_input), text_lengths * self.config.split
        rotation, mask = self.rotation(torch.arange(x.shape[1], device=x.device)[None]), valid(x.shape[1], lengths)
        for layer in self.pre_nn:
            x, _, _ = layer(x, rotation, mask)
        bos = self.embedding.weight[self.config.bos].expand(len(x), 1, -1)
        return torch.cat([bos, x], dim=1), lengths + 1

    def prefix_cache(self, prefix: Tensor, prefix_lengths: Tensor, depth: int | None = None) -> Prefix:
        """Keys and values that the prefix layers make of hidden states [B, Lp, llm_dim]; their output is dropped."""
        if not self.config.prefix:
            raise ValueError("a prefix was given, but the model has no prefix layers; give None")
        x, lengths = self.pieces(prefix, self.prefix_input), prefix_lengths * self.config.split
        rotation, mask = self.rotation(torch.arange(x.shape[1], device=x.device)[None]), valid(x.shape[1], lengths)
        cache, layers = Prefix([], [], lengths), self.prefix_layers[:depth]
        for left, layer in zip(reversed(range(len(layers))), layers, strict=True):
            query, key, value = layer.project(x, rotation)  # type: ignore[operator]
            cache.keys.append(key)
            cache.values.append(value)
            x = layer.finish(x, attend(query, key, value, mask)) if left else x  # type: ignore[operator]
        return cache

    def pieces(self, vectors: Tensor, project: nn.Module) -> Tensor:
        """LLM vectors [B, L, llm_dim] cut into [B, split * L, hidden]."""
        batch, length, _ = vectors.shape
        pieces: Tensor = project(vectors.reshape(batch, length * self.config.split, -1))
        return pieces

    def _stack(
        self,
        x: Tensor,
        positions: Tensor,
        mask: Tensor,
        before: Prefix | None,
        depth: int | None = None,
        *,
        cache_only: bool = False,
    ) -> Stacked:
        """``cache_only``: nobody wants the last layer's output."""
        rotation = self.rotation(positions)
        if before is not None:
            seen = valid(before.keys[0].shape[2], before.lengths) & (before.lengths > 0)[:, None, None, None]
            seen, mask = seen.expand(-1, -1, x.shape[1], -1), mask.expand(len(x), 1, x.shape[1], -1)
            mask = torch.cat([seen, mask], dim=-1)
        stacked = Stacked(x, [], [], [], mask)
        layers = self.layers[:depth]
        for index, layer in enumerate(layers):
            query, key, value = layer.project(x, rotation)  # type: ignore[operator]
            if before is not None:
                key = torch.cat([before.keys[index], key], dim=2)
                value = torch.cat([before.values[index], value], dim=2)
            if not cache_only or index + 1 < len(layers):
                x = layer.finish(x, attend(query, key, value, mask))  # type: ignore[operator]
            stacked.queries.append(query)
            stacked.keys.append(key)
            stacked.values.append(value)
        return stacked._replace(output=x)

    def rotation(self, positions: Tensor) -> Rope:
        """Rotations of queries and keys at ``positions`` [B or 1, L]."""
        config = self.config
        return rope(positions, config.hidden // config.heads, rounded=config.rope == "bfloat16")


def _input(config: CodecLMConfig) -> nn.Module:
    width = config.llm_dim // config.split
    return nn.Identity() if width == config.hidden else nn.Linear(width, config.hidden)


def _layers(config: CodecLMConfig, count: int) -> nn.ModuleList:
    sizes = config.hidden, config.heads, config.linear_units, config.dropout
    return nn.ModuleList(LlamaLayer(*sizes) for _ in range(count))

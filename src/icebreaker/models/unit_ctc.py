"""LLaMA-Omni's speech decoder: LLM states to speech units by CTC (arXiv:2409.06666v2, section 3.4). Pure torch.

Each LLM state is repeated ``upsample`` times; Llama layers look back only, so the frames of finished tokens never
change. With a cache a token costs its own frames; the official implementation computes all frames anew at each token.
Positions count from the first state, never from the prompt, and there is no norm after the last layer.
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from icebreaker.models.ctc_collapse import CollapseState, collapse, initial_collapse
from icebreaker.models.kv_cache import CacheWriter, KVCache, causal_mask
from icebreaker.nn.attention import attend
from icebreaker.nn.llama import LlamaLayer, Rope, RopeScaling, rope

__all__ = ["UnitCTC", "UnitCTCConfig", "UnitCTCState", "upsampled"]

FIRST_TOKENS = 40  # text tokens that a fresh cache has room for; it doubles when needed


@dataclass(frozen=True, kw_only=True)
class UnitCTCConfig:
    """Sizes; the defaults are those of the official release.

    Attributes:
        llm_dim: width of the LLM's hidden states.
        width: of the layers.
        layers: how many.
        heads: of attention, each with keys and values of its own.
        linear_units: inner width of the MLP.
        units: K, different units; the blank is one more, the last.
        upsample: frames per LLM state.
        rope_theta: rotary base, the LLM's.
        rope_scaling: of the rotary frequencies, the LLM's; None: none.
        eps: of the norms, the LLM's.
        states: which LLM state stands for a token: ``predicting`` it (the state its logits came from; the paper's
            formula and the official inference) or ``reading`` it (the state at its own position; what the released
            training code selects, one position later).
    """

    llm_dim: int
    width: int = 4096
    layers: int = 2
    heads: int = 32
    linear_units: int = 11008
    units: int = 1000
    upsample: int = 25
    rope_theta: float = 500_000.0
    rope_scaling: RopeScaling | None = field(default_factory=RopeScaling)
    eps: float = 1e-5
    states: Literal["predicting", "reading"] = "predicting"

    def __post_init__(self) -> None:
        sizes = (self.llm_dim, self.width, self.layers, self.heads, self.linear_units, self.units, self.upsample)
        if min(sizes) < 1 or self.width % (2 * self.heads):
            raise ValueError(f"sizes must be at least 1 and width a multiple of twice the heads, got {self}")

    @property
    def blank(self) -> int:
        """The class that stands for no unit."""
        return self.units


class UnitCTCState(NamedTuple):
    """A batch of replies: what the layers have seen, and the newest frame's class."""

    cache: KVCache  # length counts frames
    collapse: CollapseState


class UnitCTC(nn.Module):
    """States to log-odds of units, and units."""

    def __init__(self, config: UnitCTCConfig) -> None:
        super().__init__()
        self.config = config
        self.input = nn.Linear(config.llm_dim, config.width)
        self.layers = nn.ModuleList(
            LlamaLayer(config.width, config.heads, config.linear_units, eps=config.eps) for _ in range(config.layers)
        )
        self.output = nn.Linear(config.width, config.units + 1)

    def initial_state(self, batch: int, tokens: int = FIRST_TOKENS) -> UnitCTCState:
        """Before the first token, with room for ``tokens`` before the cache has to grow."""
        config, weight = self.config, self.input.weight
        shape = (batch, config.heads, tokens * config.upsample, config.width // config.heads)
        keys, values = (tuple(weight.new_zeros(shape) for _ in self.layers) for _ in range(2))
        length = torch.zeros(batch, dtype=torch.long, device=weight.device)
        return UnitCTCState(KVCache(keys, values, length), initial_collapse(batch, weight.device))

    @torch.no_grad()
    def forward(self, states: Tensor, lengths: Tensor, state: UnitCTCState) -> tuple[Tensor, UnitCTCState]:
        """Advance by the states of some tokens; offline use is all of them at once.

        Args:
            states: [B, M, D_llm]; what lies past a row's length is not looked at.
            lengths: [B] tokens of each row; a row of 0 is idle and stays as it was.
            state: from ``initial_state`` or the previous call; use each value once.

        Returns:
            [B, M * upsample, units + 1] logits, meaningless past a row's own frames, and the next state.

        Raises:
            ValueError: shapes do not fit.
        """
        factor = self.config.upsample
        frames = lengths * factor
        cache = _grown(state.cache, int((state.cache.length + frames).max()))
        writer = CacheWriter(cache, frames, states.shape[1] * factor)
        if writer.idle:
            logits = states.new_zeros(*states.shape[:1], states.shape[1] * factor, self.config.units + 1)
            return logits, state
        x = self.input(states.to(self.input.weight.dtype)).repeat_interleave(factor, dim=1)
        positions = cache.length[:, None] + torch.arange(x.shape[1], device=x.device)
        rotation = self._rope(positions)
        mask = causal_mask(positions, writer.read_length)
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, LlamaLayer)
            query, key, value = layer.project(x, rotation)
            keys, values = writer.update(key, value, i)
            x = layer.finish(x, attend(query, keys, values, mask))
        return self.output(x), state._replace(cache=cache._replace(length=cache.length + frames))

    def units(
        self, states: Tensor, lengths: Tensor, state: UnitCTCState
    ) -> tuple[tuple[tuple[int, ...], ...], UnitCTCState]:
        """The new units of each row, by the best class of every frame; arguments as for ``forward``."""
        logits, state = self(states, lengths, state)
        best = logits.float().argmax(dim=-1)
        found, collapsed = collapse(best, lengths * self.config.upsample, self.config.blank, state.collapse)
        return found, state._replace(collapse=collapsed)

    def train_forward(self, states: Tensor, lengths: Tensor, frames: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Whole replies at once, without a cache; gradients flow.

        Args:
            states: [B, M, D_llm], padded at the end.
            lengths: [B] tokens of each row.
            frames: [B] frames that each row is stretched to; None: ``upsample`` for each token.

        Returns:
            [B, L, units + 1] logits, L the longest row's frames, and those [B]. What lies past a row's own frames
            comes of zero vectors and is meaningless.
        """
        frames = lengths * self.config.upsample if frames is None else frames
        weight = self.input.weight
        projected = self.input(states.to(weight.dtype)).to(weight.dtype)  # autocast may have halved it
        x = upsampled(projected, lengths, frames)
        rotation = self._rope(torch.arange(x.shape[1], device=x.device)[None])
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        for layer in self.layers:
            x, _, _ = layer(x, rotation, mask)
        return self.output(x), frames

    def _rope(self, positions: Tensor) -> Rope:
        config = self.config
        return rope(positions, config.width // config.heads, theta=config.rope_theta, scaling=config.rope_scaling)


def upsampled(states: Tensor, lengths: Tensor, frames: Tensor) -> Tensor:
    """Stretch each row's ``lengths`` [B] states of [B, M, D] evenly to ``frames`` [B], zeros after them: [B, L, D].

    Frame t takes the state floor(t / (frames / length)), the ratio in float32 (official implementation).
    """
    ratio = frames.float() / lengths.clamp(min=1).float()
    steps = torch.arange(int(frames.max()), device=states.device)
    index = (steps / ratio.clamp(min=torch.finfo(torch.float32).tiny)[:, None]).long()
    index = index.minimum(lengths[:, None] - 1).clamp(min=0)
    stretched = states.gather(1, index[..., None].expand(-1, -1, states.shape[-1]))
    return stretched * (steps < frames[:, None])[..., None]


def _grown(cache: KVCache, needed: int) -> KVCache:
    """A cache with room for ``needed`` frames a row: the same one, or a copy at least twice as large."""
    if needed <= cache.capacity:
        return cache
    capacity, used = max(needed, 2 * cache.capacity), int(cache.length.max())

    def larger(old: Tensor) -> Tensor:
        new = old.new_zeros(*old.shape[:2], capacity, old.shape[3])
        new[:, :, :used] = old[:, :, :used]
        return new

    return cache._replace(keys=tuple(map(larger, cache.keys)), values=tuple(map(larger, cache.values)))

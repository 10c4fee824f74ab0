"""One transformer layer of the speech encoder. Knows nothing of chunks, features or where positions come from."""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from icebreaker.nn.attention import attend

__all__ = ["Attention", "EncoderLayer", "FeedForward", "LayerState"]


class LayerState(NamedTuple):
    """What a layer remembers of earlier frames, oldest first."""

    keys: Tensor  # [B, H, N, D_head]; position rows already added, unless they are given late
    values: Tensor  # [B, H, N, D_head]
    scores: Tensor | None  # [B, H, N] score of a key whatever the query; None without position rows in the keys


class Attention(nn.Module):
    """Attention with a learnt bias by key position (official implementation, "rel-enc").

    score(i, j) = ((q_i + u) . k_j + (q_i + v) . pos_j) / sqrt(d), where pos_j is the projected position row of key j:
    there is no relative shift. Hence the score is (q_i + u) . (k_j + pos_j) + (v - u) . pos_j, one product with keys
    that can be remembered for good. A query that sees no key gets zero (only the bias of ``out``).
    """

    def __init__(self, width: int, heads: int, dropout: float, positional: bool) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.positional = positional
        if positional:
            self.position = nn.Linear(width, width, bias=False)
            self.content_bias = nn.Parameter(torch.empty(heads, width // heads))  # u
            self.position_bias = nn.Parameter(torch.empty(heads, width // heads))  # v
            nn.init.xavier_uniform_(self.content_bias)
            nn.init.xavier_uniform_(self.position_bias)

    def remember(self, x: Tensor, rows: Tensor | None) -> LayerState:
        """Keys and values of frames ``x`` [B, T, D]; position ``rows`` [B or 1, T, D], None if given late or never."""
        keys, values = self._split(self.key(x)), self._split(self.value(x))
        if rows is None:
            return LayerState(keys, values, None)
        positions = self._split(self.position(rows))  # [B or 1, H, T, D_head]
        difference = (self.position_bias - self.content_bias).unsqueeze(-1)
        scores = (positions @ difference).squeeze(-1) * self._scale  # [B or 1, H, T]
        return LayerState(keys + positions, values, scores.expand(x.shape[0], -1, -1))

    def attend(self, x: Tensor, memory: LayerState, bias: Tensor | None, late_rows: Tensor | None = None) -> Tensor:
        """Attend from frames ``x`` [B, T, D] over N remembered ones.

        Args:
            x: queries before projection.
            memory: N keys and values.
            bias: [B or 1, 1, T or 1, N] added to the scores, minus infinity hides.
            late_rows: [B, N, D] position rows of keys that were remembered without.

        Returns:
            [B, T, D].
        """
        queries = self._split(self.query(x))  # [B, H, T, D_head]
        if late_rows is not None:
            late = self._late_scores(queries, late_rows)
            bias = late if bias is None else late + bias
        if self.positional:
            queries = queries + self.content_bias.unsqueeze(1)
        if memory.scores is not None:
            fixed = memory.scores.unsqueeze(2)
            bias = fixed if bias is None else fixed + bias
        dropout = self.dropout if self.training else 0.0
        heard = attend(queries, memory.keys, memory.values, bias, dropout=dropout, scale=self._scale)
        out: Tensor = self.out(heard.transpose(1, 2).flatten(2))
        return out

    def _late_scores(self, queries: Tensor, rows: Tensor) -> Tensor:
        # Few queries, many rows: carry the queries back through the projection instead of the rows forward.
        weight = self.position.weight.unflatten(0, (self.heads, -1))  # [H, D_head, D]
        carried = (queries + self.position_bias.unsqueeze(1)) @ weight  # [B, H, T, D]
        scores: Tensor = carried @ rows.mT.unsqueeze(1) * self._scale  # [B, H, T, N]
        return scores

    @property
    def _scale(self) -> float:
        return float((self.query.out_features // self.heads) ** -0.5)

    def _split(self, x: Tensor) -> Tensor:
        heads: Tensor = x.unflatten(-1, (self.heads, -1)).transpose(-2, -3)  # [B, H, T, D_head]
        return heads


class FeedForward(nn.Module):
    """Two layers with a ReLU between: linear, same-padded convolutions, or causal depthwise + pointwise."""

    def __init__(
        self,
        width: int,
        hidden: int,
        kind: Literal["linear", "conv1d", "conv1d-linear"],
        kernel_size: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.kind, self.kernel_size = kind, kernel_size
        self.dropout = nn.Dropout(dropout)
        self.up: nn.Module
        self.down: nn.Module
        if kind == "conv1d":
            self.up = nn.Conv1d(width, hidden, kernel_size, padding=(kernel_size - 1) // 2)
            self.down = nn.Conv1d(hidden, width, kernel_size, padding=(kernel_size - 1) // 2)
            return
        if kind == "conv1d-linear":
            self.depthwise = nn.Conv1d(width, width, kernel_size, groups=width)
            self.up, self.down = nn.Conv1d(width, hidden, 1), nn.Linear(hidden, width)
            return
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]."""
        if self.kind == "conv1d":
            convolved: Tensor = self.down(self.dropout(F.relu(self.up(x.mT)))).mT
            return convolved
        if self.kind == "conv1d-linear":
            up = self.up(self.depthwise(F.pad(x.mT, (self.kernel_size - 1, 0)))).mT
            return self.down(self.dropout(F.relu(up)))  # type: ignore[no-any-return]
        out: Tensor = self.down(self.dropout(F.relu(self.up(x))))
        return out


class EncoderLayer(nn.Module):
    """Attention and feed-forward with residual sums, normalised before or after."""

    def __init__(
        self, attention: Attention, feed_forward: FeedForward, width: int, dropout: float, pre_norm: bool, concat: bool
    ) -> None:
        super().__init__()
        self.attention, self.feed_forward = attention, feed_forward
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.pre_norm = pre_norm
        self.concat = nn.Linear(2 * width, width) if concat else None

    def forward(
        self,
        x: Tensor,
        rows: Tensor | None,
        bias: Tensor | None,
        past: LayerState | None = None,
        late_rows: Tensor | None = None,
    ) -> tuple[Tensor, LayerState]:
        """Advance by T frames.

        Args:
            x: [B, T, D].
            rows: [B or 1, T, D] position rows of the frames, or None.
            bias: [B or 1, 1, T or 1, N + T] added to the attention scores.
            past: N earlier frames, as many as the next state keeps; None: nothing is kept.
            late_rows: [B, N + T, D], see ``Attention.attend``.

        Returns:
            [B, T, D] and the memory of the newest N frames.
        """
        seen = self.attention_norm(x) if self.pre_norm else x
        memory = self.attention.remember(seen, rows)
        if past is not None:
            memory = _append(past, memory)
        heard = self.attention.attend(seen, memory, bias, late_rows)
        x = x + (self.dropout(heard) if self.concat is None else self.concat(torch.cat([seen, heard], dim=-1)))
        x = x if self.pre_norm else self.attention_norm(x)
        x = x + self.dropout(self.feed_forward(self.feed_forward_norm(x) if self.pre_norm else x))
        x = x if self.pre_norm else self.feed_forward_norm(x)
        return x, _newest(memory, 0 if past is None else past.keys.shape[2])


def _append(past: LayerState, new: LayerState) -> LayerState:
    scores = None
    if past.scores is not None and new.scores is not None:
        scores = torch.cat([past.scores, new.scores], dim=2)
    return LayerState(torch.cat([past.keys, new.keys], dim=2), torch.cat([past.values, new.values], dim=2), scores)


def _newest(memory: LayerState, count: int) -> LayerState:
    first = memory.keys.shape[2] - count
    scores = None if memory.scores is None else memory.scores[:, :, first:]
    return LayerState(memory.keys[:, :, first:], memory.values[:, :, first:], scores)

"""An n-gram language model over an LLM's tokens, as sorted arrays. Knows nothing of sound or of searching.

Interpolated Witten-Bell (Chen and Goodman 1999): P(w | h) = (c(hw) + T(h) P(w | h')) / (c(h) + T(h)), where T(h) counts
the different tokens that follow h and h' is h without its oldest token. What was counted has its probability stored;
what was not costs the weights T / (c + T) of the contexts that are given up.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["NGram", "NGramConfig"]

KEY_BITS = 63


@dataclass(frozen=True, kw_only=True)
class NGramConfig:
    """Sizes: ``entries`` n-grams of one token, of two, and so on."""

    vocabulary: int
    entries: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.entries or min(self.entries) < 1:
            raise ValueError(f"entries: expected at least one n-gram of every length, got {list(self.entries)}")
        if len(self.entries) * math.log2(self.vocabulary + 2) > KEY_BITS:
            raise ValueError(
                f"{len(self.entries)}-grams of {self.vocabulary} tokens do not fit {KEY_BITS} bits; lower the order"
            )


class NGram(nn.Module):
    """Log-probabilities of the next token of what somebody says. Runs on the CPU, in NumPy."""

    def __init__(self, config: NGramConfig) -> None:
        super().__init__()
        self.config = config
        for order, count in enumerate(config.entries, 1):
            self.register_buffer(f"keys{order}", torch.empty(count, dtype=torch.int64))  # sorted, see ``_key``
            self.register_buffer(f"log_p{order}", torch.empty(count, dtype=torch.float32))
            self.register_buffer(f"backoff{order}", torch.empty(count, dtype=torch.float32))  # as a context
        self.floor: Tensor
        self.register_buffer("floor", torch.empty((), dtype=torch.float32))  # of a token that was never said
        self._tables: list[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]] | None = None

    @property
    def begin(self) -> int:
        """Stands before the first token of an utterance."""
        return self.config.vocabulary

    @property
    def end(self) -> int:
        """Stands after the last."""
        return self.config.vocabulary + 1

    @property
    def reach(self) -> int:
        """How many tokens before one count."""
        return len(self.config.entries) - 1

    @classmethod
    def counted(cls, sentences: Iterable[tuple[Sequence[int], int]], vocabulary: int, order: int) -> "NGram":
        """The model of ``sentences``, each the ids of one utterance and how often it counts.

        Raises:
            ValueError: there are none.
        """
        counts = [Counter[tuple[int, ...]]() for _ in range(order)]
        for ids, weight in sentences:
            row = (vocabulary, *ids, vocabulary + 1)
            for stop in range(2, len(row) + 1):
                for length in range(1, min(order, stop) + 1):
                    counts[length - 1][row[stop - length : stop]] += weight
        if not counts[0]:
            raise ValueError("expected sentences to count, got none")
        follow = [Counter[tuple[int, ...]]() for _ in range(order)]  # c(h) of contexts of 0, 1, ... tokens
        kinds = [Counter[tuple[int, ...]]() for _ in range(order)]  # T(h)
        for length, table in enumerate(counts):
            for gram, count in table.items():
                follow[length][gram[:-1]] += count
                kinds[length][gram[:-1]] += 1
        counts[0][(vocabulary,)] = 0  # never said, but a context
        model = cls(NGramConfig(vocabulary=vocabulary, entries=tuple(max(1, len(table)) for table in counts)))
        below_all = 1 / (vocabulary + 1)
        model.floor.fill_(math.log(below_all * kinds[0][()] / (follow[0][()] + kinds[0][()])))
        known = dict[tuple[int, ...], float]()
        for length, table in enumerate(counts):
            shorter, known = known, {}
            for gram, count in table.items():
                context = gram[:-1]
                below = shorter[gram[1:]] if length else below_all
                many, some = follow[length][context], kinds[length][context]
                known[gram] = (count + some * below) / (many + some)
            grams = sorted(table)
            above = follow[length + 1] if length + 1 < order else {}
            weights = [kinds[length + 1][g] / (above[g] + kinds[length + 1][g]) if g in above else 1.0 for g in grams]
            model._fill(length + 1, grams, [known[gram] for gram in grams], weights)
        return model

    def log_p(self, context: Sequence[int] | NDArray[np.int64], tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Natural logarithms [n] of the chances of ``tokens`` [n] after ``context`` [c], or after one each [n, c].

        Of a context only the last ``reach`` tokens count.
        """
        tables = self._tables = self._tables or [self._table(order) for order in range(1, len(self.config.entries) + 1)]
        before = np.asarray(context, np.int64)
        before = before[..., max(0, before.shape[-1] - self.reach) :]
        found = np.full(len(tokens), float(self.floor), np.float32)
        owed = np.zeros(len(tokens), np.float32)  # weights of the contexts given up so far
        missing = np.arange(len(tokens))
        for length in range(before.shape[-1], -1, -1):
            seen = self._key(before[..., before.shape[-1] - length :])
            wanted = np.broadcast_to(seen * (self.config.vocabulary + 2) + tokens, tokens.shape)[missing]
            places, here = _places(tables[length][0], wanted)
            found[missing[here]] = tables[length][1][places[here]] + owed[missing[here]]
            missing = missing[~here]
            if not len(missing):
                return found
            if length:
                keys, _, backoff = tables[length - 1]
                places, here = _places(keys, np.broadcast_to(seen, tokens.shape))
                owed += np.where(here, backoff[places], 0)
        found[missing] += owed[missing]
        return found

    def _table(self, order: int) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
        keys, log_p, backoff = (getattr(self, f"{name}{order}") for name in ("keys", "log_p", "backoff"))
        return keys.numpy(), log_p.float().numpy(), backoff.float().numpy()

    def _fill(self, order: int, grams: list[tuple[int, ...]], chances: list[float], weights: list[float]) -> None:
        keys = self._key(np.asarray(grams, np.int64))
        for name, values in (("keys", keys), ("log_p", np.log(chances)), ("backoff", np.log(weights))):
            buffer = getattr(self, f"{name}{order}")
            buffer.copy_(torch.as_tensor(np.asarray(values)))

    def _key(self, grams: NDArray[np.int64]) -> NDArray[np.int64]:
        """One number [...] for every gram [..., n]."""
        key = np.zeros(grams.shape[:-1], np.int64)
        for place in range(grams.shape[-1]):
            key = key * (self.config.vocabulary + 2) + grams[..., place]
        return key


def _places(keys: NDArray[np.int64], wanted: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where ``wanted`` is in the sorted ``keys``, and whether it is."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return places, keys[places] == wanted

"""Speaks to an LLM in its own tokens: a vector becomes a mixture of token embeddings (ours). Knows no encoder.

For small LLMs. A large one makes sense of whatever vectors an adapter gives; one of some million parameters reads only
what looks like its own tokens. With the zero vector for pauses, which the LLM must have learnt to read past.
"""

import torch
from torch import Tensor, nn

__all__ = ["TokenLookup"]

SHARPNESS = 16.0  # log-odds of a token's own embedding against a typical other one, about twice this


class TokenLookup(nn.Module):
    """``tokens`` [V, D] are the LLM's input embeddings, frozen; what they are is set with ``follow``."""

    def __init__(self, vocabulary: int, llm_dim: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.zeros(vocabulary, llm_dim), requires_grad=False)
        self.certainty = 1.0  # of the mixtures, in use: that many times the log-odds that were trained

    @torch.no_grad()
    def follow(self, table: Tensor) -> None:
        """Take over an LLM's embeddings [V, D].

        Raises:
            ValueError: they are not of the configured size.
        """
        if table.shape != self.tokens.shape:
            raise ValueError(
                f"the adapter looks up {tuple(self.tokens.shape)} tokens and widths, the LLM has {tuple(table.shape)}; "
                "set adapter.vocabulary and adapter.llm_dim to the LLM's"
            )
        self.tokens.copy_(table)

    def logits(self, vectors: Tensor) -> Tensor:
        """[..., 1 + V] of ``vectors`` [..., D], by distance to a pause (first) and to each token."""
        sizes = self.tokens.square().sum(dim=1)
        near = (SHARPNESS / sizes.mean()) * (2 * vectors @ self.tokens.mT - sizes)  # the vector's own norm cancels
        return torch.cat([torch.zeros_like(near[..., :1]), near], dim=-1)

    def forward(self, vectors: Tensor) -> Tensor:
        """The mixture [..., D] for ``vectors`` [..., D]."""
        return (self.certainty * self.logits(vectors)).softmax(dim=-1)[..., 1:] @ self.tokens

    @torch.no_grad()
    def read(self, vectors: Tensor) -> list[int]:
        """Token ids of ``vectors`` [T, D] (or of their mixtures) by best path: pauses and repetitions left out."""
        path = torch.unique_consecutive(self.logits(vectors).argmax(dim=-1))
        return [int(choice) - 1 for choice in path if choice > 0]

"""CTC over a frozen LLM's vocabulary by distance to its input embeddings (ours). Knows nothing of speech.

An adapter's output near a token's embedding counts as that token.
"""

from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["Blank", "TokenCTC"]

Blank = Literal["trained", "zero"]
SHARPNESS = 8.0  # log-odds of a token's own embedding against a typical other one, about twice this


class TokenCTC(nn.Module):
    """Logits over blank and tokens."""

    def __init__(self, llm_dim: int, blank: Blank = "trained") -> None:
        """``blank`` stands between tokens: a trained vector, or zero, if the LLM has learnt to read past zeros."""
        super().__init__()
        vector = torch.zeros(llm_dim)
        if blank == "trained":
            self.blank = nn.Parameter(vector)
        else:
            self.register_buffer("blank", vector, persistent=False)

    def forward(self, embeddings: Tensor, table: Tensor) -> Tensor:
        """Logits [B, T, 1 + V] of ``embeddings`` [B, T, D] against ``table`` [V, D]; the blank comes first."""
        table = torch.cat([self.blank[None], table])
        scale = SHARPNESS / table[1:].square().sum(dim=1).mean()
        return scale * (2 * embeddings @ table.mT - table.square().sum(dim=1))  # the row's own norm cancels

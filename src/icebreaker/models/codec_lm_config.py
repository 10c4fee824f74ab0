"""Sizes of the speech decoder and its special ids. Knows nothing of layers."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["CodecLMConfig"]

SPECIAL_IDS = 4


@dataclass(frozen=True, kw_only=True)
class CodecLMConfig:
    """Sizes of the speech decoder; the defaults are the published ones."""

    codes: int = 1024
    llm_dim: int = 3584
    split: int = 4  # decoder positions per LLM position
    hidden: int = 896
    linear_units: int = 4864
    blocks: int = 4
    heads: int = 14
    pre_network: bool = True  # bidirectional layers over the text; off in an ablation of the paper's
    prefix: bool = True
    dropout: float = 0.0
    rope: Literal["exact", "bfloat16"] = "exact"  # bfloat16: frequencies rounded as by the official one on a GPU

    def __post_init__(self) -> None:
        if self.llm_dim % self.split:
            raise ValueError(f"llm_dim {self.llm_dim} cannot be cut into {self.split} equal vectors")

    @property
    def pre_blocks(self) -> int:
        """Layers of the pre-network."""
        return self.blocks // 2 if self.pre_network else 0

    @property
    def bos(self) -> int:
        """Opens the context."""
        return self.codes

    @property
    def sos(self) -> int:
        """Opens the speech: the first code to feed."""
        return self.codes + 1

    @property
    def eos(self) -> int:
        """Ends the speech."""
        return self.codes + 2

    @property
    def pad(self) -> int:
        """Fills training batches."""
        return self.codes + 3

    @property
    def vocab_size(self) -> int:
        """Codes and special ids."""
        return self.codes + SPECIAL_IDS

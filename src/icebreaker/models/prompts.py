"""Trainable vectors put before the speech in the LLM's input. Knows nothing of the LLM but its width."""

import torch
from torch import Tensor, nn

__all__ = ["AFTER_SPEECH", "BEFORE_SPEECH", "Prompts"]

BEFORE_SPEECH = (1, 4, 5)  # transcribe, en, audio
AFTER_SPEECH = (6, 7)  # /audio, hyps


class Prompts(nn.Module):
    """Prompt embeddings of speech input, and task embeddings of the alignment stage (arXiv:2411.00774, stages 2 and 3).

    Official task ids: sot 0, transcribe 1, translate 2, zh 3, en 4, audio 5, /audio 6, hyps 7, /hyps 8.
    """

    def __init__(self, llm_dim: int, prompts: int = 25, tasks: int = 20) -> None:
        super().__init__()
        self.prompt_embeddings = nn.Embedding(prompts, llm_dim)
        self.task_embeddings = nn.Embedding(tasks, llm_dim)

    def transcribing(self, speech: Tensor) -> Tensor:
        """LLM inputs [n + 5, D] whose continuation is the transcript of ``speech`` [n, D] (stage 2; our layout)."""
        tasks = self.task_embeddings.weight
        return torch.cat([tasks[list(BEFORE_SPEECH)], speech, tasks[list(AFTER_SPEECH)]])

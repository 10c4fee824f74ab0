"""Turn head: has the user finished? Knows nothing of when it is asked or what follows from the answer."""

from torch import Tensor, nn

__all__ = ["TurnHead"]


class TurnHead(nn.Module):
    """A linear classifier on the LLM's last hidden state of a chunk (arXiv:2411.00774, chunk-level state prediction).

    Classes: 0 keep listening, 1 the turn is complete and wants an answer, 2 it wants none. The last class is never
    predicted: the official head has four outputs and drops the fourth.
    """

    def __init__(self, llm_dim: int, classes: int = 4) -> None:
        super().__init__()
        self.linear = nn.Linear(llm_dim, classes)

    def logits(self, hidden_states: Tensor) -> Tensor:
        """[..., D] to [..., classes], the dropped class last."""
        logits: Tensor = self.linear(hidden_states)
        return logits

    def forward(self, hidden_states: Tensor) -> Tensor:
        """[..., D] hidden states after the LLM's final norm to [..., classes - 1] probabilities."""
        return self.logits(hidden_states)[..., :-1].softmax(-1)

"""Turn head: has the user finished? Knows nothing of when it is asked or what follows from the answer."""

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["TurnHead"]


class TurnHead(nn.Module):
    """A classifier on the LLM's last hidden state of a chunk (arXiv:2411.00774, chunk-level state prediction).

    Classes: 0 keep listening, 1 the turn is complete and wants an answer, 2 it wants none. The last class is never
    predicted: the official head has four outputs and drops the fourth. It is linear, too; ours may have a hidden layer,
    because a small LLM's state does not lay out for a line whether a question is complete.
    """

    def __init__(self, llm_dim: int, classes: int = 4, hidden: int = 0) -> None:
        """``hidden`` is the width of the layer between; 0: none, as published."""
        super().__init__()
        self.hidden = nn.Linear(llm_dim, hidden) if hidden else None
        self.linear = nn.Linear(hidden or llm_dim, classes)

    def between(self, hidden_states: Tensor) -> Tensor:
        """What the last layer reads: [..., D], or [..., hidden] where there is a hidden layer."""
        return hidden_states if self.hidden is None else F.gelu(self.hidden(hidden_states))

    def logits(self, hidden_states: Tensor) -> Tensor:
        """[..., D] to [..., classes], the dropped class last."""
        logits: Tensor = self.linear(self.between(hidden_states))
        return logits

    def forward(self, hidden_states: Tensor) -> Tensor:
        """[..., D] hidden states after the LLM's final norm to [..., classes - 1] probabilities."""
        return self.logits(hidden_states)[..., :-1].softmax(-1)

from pathlib import Path

import numpy as np
import torch

from icebreaker.models.prompts import Prompts
from icebreaker.models.turn_head import TurnHead

GOLDEN = Path(__file__).parents[1] / "golden" / "freeze-omni-tiny"


def test_logits_and_probabilities_match_official() -> None:
    official = torch.load(GOLDEN / "checkpoints" / "audiollm" / "final.pt", weights_only=True)
    head = TurnHead(128)
    head.load_state_dict({f"linear.{kind}": official[f"predictor_head.{kind}"].float() for kind in ("weight", "bias")})
    with np.load(GOLDEN / "expected" / "llm_turn.npz") as arrays:
        hidden, logits, probabilities = (
            torch.from_numpy(arrays[key]) for key in ("last_hidden_per_chunk", "state_logits", "state_probs")
        )
    torch.testing.assert_close(head.logits(hidden), logits, atol=1e-4, rtol=0.0)
    torch.testing.assert_close(head(hidden), probabilities, atol=1e-5, rtol=0.0)


def test_the_last_class_is_never_predicted() -> None:
    head = TurnHead(2)
    with torch.no_grad():
        head.linear.weight.zero_()
        head.linear.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 9.0]))
    torch.testing.assert_close(head(torch.ones(5, 2)), torch.full((5, 3), 1 / 3))


def test_prompts_have_the_published_sizes() -> None:
    prompts = Prompts(3584)
    assert prompts.prompt_embeddings.weight.numel() == 89_600
    assert prompts.task_embeddings.weight.numel() == 71_680

import math

import torch

from icebreaker.training.scenes import Scene
from icebreaker.training.turn_scores import outcome, turn_figures

WAIT, TAKE, DROP = [0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7]


def scene(kind: str) -> Scene:
    """Ten chunks; the recording ends at frame 74, so the last sound is at 64, after four chunks."""
    return Scene(torch.zeros(160, 80), kind, torch.zeros(10), 74)


def test_the_first_verdict_counts() -> None:
    found = outcome(torch.tensor([WAIT] * 5 + [TAKE, DROP]), scene("question"))
    assert (found.took, found.dismissed, found.delay_ms) == (True, False, 320.0)
    found = outcome(torch.tensor([WAIT, DROP, TAKE]), scene("question"))
    assert (found.took, found.dismissed, found.delay_ms) == (False, True, -320.0)
    found = outcome(torch.tensor([WAIT] * 10), scene("cough"))
    assert (found.took, found.dismissed, math.isnan(found.delay_ms)) == (False, False, True)


def test_figures_by_kind() -> None:
    questions = [[WAIT] * 5 + [TAKE], [WAIT] * 6 + [TAKE], [TAKE], [WAIT], [DROP]]
    outcomes = [outcome(torch.tensor(rows), scene("question")) for rows in questions]
    outcomes += [outcome(torch.tensor(rows), scene("cough")) for rows in ([TAKE], [DROP], [DROP], [WAIT])]
    assert turn_figures(outcomes) == {
        "question_taken": 0.4, "question_early": 0.2, "question_never": 0.4, "question_delay_ms": 400.0,
        "question_delay_p90_ms": 464.0, "cough_answered": 0.25, "cough_dismissed": 0.5,
    }  # fmt: skip

import pytest
import torch

from icebreaker.errors import TrainingError
from icebreaker.models.turn_head import TurnHead
from icebreaker.training.head_fit import fit_head


@pytest.mark.parametrize("hidden", [0, 8])
def test_a_separable_problem_is_learnt_whatever_its_scale(hidden: int) -> None:
    torch.manual_seed(0)
    labels = torch.arange(300) % 3
    states = 50 * (torch.eye(3)[labels] + 0.1 * torch.randn(300, 3)) + 1000
    head = TurnHead(3, hidden=hidden)
    assert fit_head(head, states, labels, steps=4000) < 0.05
    assert (head(states).argmax(dim=-1) == labels).all()


def test_what_no_line_divides_needs_a_hidden_layer() -> None:
    torch.manual_seed(0)
    states = torch.randn(2000, 2)
    labels = (states[:, 0] * states[:, 1] > 0).long()
    lines, bends = (fit_head(TurnHead(2, hidden=hidden), states, labels) for hidden in (0, 32))
    assert lines > 0.6
    assert bends < 0.2


def test_states_without_a_label_do_not_count() -> None:
    torch.manual_seed(0)
    states, labels = torch.randn(200, 4), torch.arange(200) % 3
    one, other = TurnHead(4), TurnHead(4)
    other.load_state_dict(one.state_dict())
    fit_head(one, states, labels)
    fit_head(other, torch.cat([states, 9 * torch.ones(50, 4)]), torch.cat([labels, torch.full((50,), 3)]))
    torch.testing.assert_close(one.linear.weight, other.linear.weight)


def test_nothing_to_fit_to_is_an_error() -> None:
    with pytest.raises(TrainingError, match="every label says ignore"):
        fit_head(TurnHead(4), torch.zeros(5, 4), torch.full((5,), 3))

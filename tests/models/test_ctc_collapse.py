import torch
from omni_golden import facts

from icebreaker.models.ctc_collapse import collapse, initial_collapse

BLANK = 3


def test_official_examples() -> None:
    for example in facts("g4_prompt")["collapse_examples"]:
        frames = torch.tensor([example["alignment"]])
        units, _ = collapse(frames, torch.tensor([frames.shape[1]]), example["blank"], initial_collapse(1))
        assert list(units[0]) == example["units"]


def test_pieces_of_any_length_give_what_the_whole_gives() -> None:
    generator = torch.Generator().manual_seed(1)
    frames = torch.randint(0, BLANK + 1, (4, 60), generator=generator)
    whole, _ = collapse(frames, torch.full((4,), 60), BLANK, initial_collapse(4))
    given, found, state = torch.zeros(4, dtype=torch.long), [[] for _ in range(4)], initial_collapse(4)
    while bool((given < 60).any()):
        lengths = torch.randint(0, 8, (4,), generator=generator).minimum(60 - given)  # rows drift apart, some idle
        piece = torch.stack(
            [torch.cat([row, row[:8]])[g : g + 8] for row, g in zip(frames, given.tolist(), strict=True)]
        )
        units, state = collapse(piece, lengths, BLANK, state)
        for row, new in zip(found, units, strict=True):
            row += new
        given += lengths
    assert [tuple(row) for row in found] == list(whole)


def test_an_idle_row_keeps_its_state() -> None:
    _, state = collapse(torch.tensor([[1, 2], [1, 0]]), torch.tensor([2, 2]), BLANK, initial_collapse(2))
    units, after = collapse(torch.tensor([[2], [1]]), torch.tensor([0, 1]), BLANK, state)
    assert units == ((), (1,))
    assert after.newest.tolist() == [2, 1]

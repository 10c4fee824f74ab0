import pytest
import torch

from icebreaker.models.units import Quantiser, merge_runs, repeat_runs


def test_each_frame_gets_its_nearest_centre() -> None:
    generator = torch.Generator().manual_seed(0)
    centres, frames = torch.randn(7, 5, generator=generator), torch.randn(5000, 5, generator=generator)
    expected = torch.cdist(frames, centres).argmin(dim=1)
    assert torch.equal(Quantiser(centres)(frames), expected)
    assert Quantiser(centres)(frames[:0]).shape == (0,)


def test_runs_merge_and_come_back() -> None:
    units = torch.tensor([3, 3, 1, 1, 1, 3, 2])
    merged, durations = merge_runs(units)
    assert merged.tolist() == [3, 1, 3, 2]
    assert durations.tolist() == [2, 3, 1, 1]
    assert torch.equal(repeat_runs(merged, durations), units)


def test_centres_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"centres are 4 wide, the features 6"):
        Quantiser(torch.randn(3, 4))(torch.randn(2, 6))
    with pytest.raises(ValueError, match="at least two finite centres"):
        Quantiser(torch.full((3, 4), torch.nan))

import pytest
import torch

from icebreaker.nn import subsampling
from icebreaker.nn.subsampling import Subsampling, subsampled


@pytest.mark.parametrize(("size", "left"), [(80, 19), (19, 4), (7, 1), (6, 0), (339, 84)])
def test_subsampled_counts_two_convolutions(size: int, left: int) -> None:
    assert subsampled(size) == left


def test_the_product_for_few_outputs_equals_the_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer, features = Subsampling(20, 6), torch.randn(2, 35, 20)
    product = layer(features)
    monkeypatch.setattr(subsampling, "FEW_OUTPUTS", 0)
    torch.testing.assert_close(product, layer(features), atol=1e-6, rtol=0.0)
    assert product.shape == (2, 8, 6)

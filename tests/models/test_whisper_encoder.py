import pytest
import torch
from omni_golden import arrays, omni_parts

from icebreaker.models.whisper_encoder import WhisperConfig


@pytest.mark.parametrize("case", ["a", "b"])
def test_encoder_matches_the_official_one(case: str) -> None:
    with torch.inference_mode():
        encoded = omni_parts().encoder(arrays("g1_mel")[f"mel_{case}"][None])
    torch.testing.assert_close(encoded[0], arrays("g2_encoder")[f"enc_{case}"], atol=1e-4, rtol=0)


def test_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected log-mel \[B, 3000, 128\], got \[1, 2998, 128\]"):
        omni_parts().encoder(torch.zeros(1, 2998, 128))


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="width 10 must be a multiple of heads 4"):
        WhisperConfig(width=10, heads=4)

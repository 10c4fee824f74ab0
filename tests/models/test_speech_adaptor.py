import pytest
import torch
from omni_golden import arrays, omni_parts

from icebreaker.models.speech_adaptor import SpeechAdaptor, SpeechAdaptorConfig


@pytest.mark.parametrize("case", ["a", "b"])
def test_adaptor_matches_the_official_one(case: str) -> None:
    with torch.inference_mode():
        adapted = omni_parts().adaptor.whole(arrays("g2_encoder")[f"enc_{case}"][None])
    torch.testing.assert_close(adapted[0], arrays("g3_adaptor")[f"adapt_{case}"], atol=1e-4, rtol=0)


def test_chunks_give_what_the_whole_gives_and_a_remainder_is_dropped() -> None:
    adaptor = SpeechAdaptor(SpeechAdaptorConfig(encoder_dim=3, llm_dim=4, stride=2, hidden=5))
    frames = torch.randn(2, 9, 3)
    whole, state, pieces = adaptor.whole(frames), adaptor.initial_state(2), []
    assert whole.shape == (2, 4, 4)
    for piece in frames[:, :8].split(4, dim=1):
        output, state = adaptor(piece, state)
        pieces.append(output)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole)
    with pytest.raises(ValueError, match="expected a multiple of 2 frames, got 9"):
        adaptor(frames, state)


def test_a_vector_does_not_hear_its_neighbours_frames() -> None:
    adaptor = SpeechAdaptor(SpeechAdaptorConfig(encoder_dim=3, llm_dim=4, stride=2, hidden=5))
    frames = torch.randn(1, 8, 3, requires_grad=True)
    adaptor.whole(frames)[0, 1].sum().backward()
    assert frames.grad is not None
    heard = frames.grad[0].abs().sum(-1) > 0
    assert heard.tolist() == [False, False, True, True, False, False, False, False]

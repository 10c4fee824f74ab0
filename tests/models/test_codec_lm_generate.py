import torch

from icebreaker.models.codec_lm import CodecLM, CodecLMConfig
from icebreaker.models.codec_lm_generate import generate, mask_special
from icebreaker.models.sampling import GREEDY, SamplingConfig

CONFIG = CodecLMConfig(codes=20, llm_dim=12, split=3, hidden=16, linear_units=24, blocks=2, heads=2, prefix=False)


def favouring(*favoured: int) -> CodecLM:
    torch.manual_seed(3)
    model = CodecLM(CONFIG).eval()
    with torch.no_grad():
        model.head.bias[list(favoured)] += 50.0
    return model


def test_eos_ends_a_row_and_is_not_among_its_codes() -> None:
    model = favouring(CONFIG.eos)
    state = model.prefill(torch.randn(2, 3, 12), torch.tensor([3, 2]), max_codes=5)
    assert [len(row) for row in generate(model, state, GREEDY, 5)] == [0, 0]


def test_a_row_that_does_not_end_is_stopped_and_idle_rows_say_nothing() -> None:
    model = favouring(7)
    state = model.prefill(torch.randn(2, 3, 12), torch.tensor([3, 0]), max_codes=5)
    codes = generate(model, state, GREEDY, 5)
    assert [row.tolist() for row in codes] == [[7] * 5, []]


def test_special_ids_are_drawn_only_where_asked_for() -> None:
    model = favouring(CONFIG.pad)
    text, lengths = torch.randn(1, 3, 12), torch.tensor([3])
    official = generate(model, model.prefill(text, lengths, max_codes=4), GREEDY, 4, masked=False)
    assert official[0].tolist() == [CONFIG.pad] * 4
    ours = generate(model, model.prefill(text, lengths, max_codes=4), SamplingConfig(), 4, torch.Generator())
    assert ours[0].max() < CONFIG.codes
    masked = mask_special(torch.zeros(1, CONFIG.vocab_size), CONFIG)
    assert masked.isinf().nonzero()[:, 1].tolist() == [CONFIG.bos, CONFIG.sos, CONFIG.pad]


def test_rows_together_equal_rows_alone() -> None:
    torch.manual_seed(5)
    model, text, lengths = CodecLM(CONFIG).eval(), torch.randn(3, 4, 12), torch.tensor([4, 2, 3])
    together = generate(model, model.prefill(text, lengths, max_codes=12), GREEDY, 12)
    for row in range(3):
        state = model.prefill(text[row : row + 1], lengths[row : row + 1], max_codes=12)
        assert generate(model, state, GREEDY, 12)[0].equal(together[row])

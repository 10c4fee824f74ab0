import pytest
import torch
from torch import Tensor

from icebreaker.models.codec_lm import CodecLM, CodecLMConfig, CodecLMState
from icebreaker.models.codec_lm_loss import accuracy, cross_entropy, targets
from icebreaker.streaming import select

CONFIG = CodecLMConfig(codes=20, llm_dim=12, split=3, hidden=16, linear_units=24, blocks=2, heads=2)
TEXT_LENGTHS = torch.tensor([5, 2, 4])
PREFIX_LENGTHS = torch.tensor([3, 6, 0])
CODE_LENGTHS = torch.tensor([7, 4, 9])


@pytest.fixture
def model() -> CodecLM:
    torch.manual_seed(0)
    return CodecLM(CONFIG).eval()


@pytest.fixture
def batch() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {
        "text": torch.randn(3, 5, 12),
        "text_lengths": TEXT_LENGTHS,
        "codes": torch.randint(20, (3, 9)),
        "code_lengths": CODE_LENGTHS,
        "prefix": torch.randn(3, 6, 12),
        "prefix_lengths": PREFIX_LENGTHS,
    }


def prefill(model: CodecLM, batch: dict[str, Tensor], rows: slice = slice(None), max_codes: int = 12) -> CodecLMState:
    names = ("text", "text_lengths", "prefix", "prefix_lengths")
    return model.prefill(*(batch[name][rows] for name in names), max_codes=max_codes)


def feed(batch: dict[str, Tensor]) -> Tensor:
    return torch.nn.functional.pad(batch["codes"], (1, 0), value=CONFIG.sos)  # [B, T + 1]


@pytest.mark.parametrize("with_prefix", [True, False])
def test_steps_equal_the_training_forward(model: CodecLM, batch: dict[str, Tensor], with_prefix: bool) -> None:
    if not with_prefix:
        batch = {**batch, "prefix": None, "prefix_lengths": None}  # type: ignore[dict-item]
    forced = model(**batch).logits
    state = model.prefill(
        batch["text"], TEXT_LENGTHS, batch["prefix"], batch["prefix_lengths"], max_codes=9
    )  # a step for sos and one for each of the nine codes just fits
    for step, codes in enumerate(feed(batch).T):
        active = step <= CODE_LENGTHS
        logits, state = model.step(codes, state, active)
        torch.testing.assert_close(logits[active], forced[active, step], atol=1e-5, rtol=1e-5)


def test_drifting_rows_equal_rows_alone(model: CodecLM, batch: dict[str, Tensor]) -> None:
    fed = feed(batch)
    alone = []
    for row in range(3):
        state, outputs = prefill(model, batch, slice(row, row + 1)), []
        for codes in fed[row]:
            logits, state = model.step(codes[None], state)
            outputs.append(logits[0])
        alone.append(torch.stack(outputs))
    state, done = prefill(model, batch), torch.zeros(3, dtype=torch.long)
    generator = torch.Generator().manual_seed(2)
    while (done < 10).any():
        active = (torch.rand(3, generator=generator) < 0.6) & (done < 10)
        codes = fed[torch.arange(3), done.clamp(max=9)]
        logits, state = model.step(codes, state, active)
        for row in active.nonzero().flatten().tolist():
            torch.testing.assert_close(logits[row], alone[row][done[row]], atol=1e-5, rtol=1e-5)
        done += active


def test_idle_rows_stay_as_they_are(model: CodecLM, batch: dict[str, Tensor]) -> None:
    state = prefill(model, batch)
    before = [(state.keys[row, :, :, :n].clone(), int(n)) for row, n in enumerate(state.length)]
    active = torch.tensor([True, False, True])
    _, after = model.step(torch.tensor([1, 2, 3]), state, active)
    assert (after.length - state.length).tolist() == [1, 0, 1]
    assert (after.position - state.position).tolist() == [1, 0, 1]
    for row, (keys, length) in enumerate(before):
        assert after.keys[row, :, :, :length].equal(keys)
    chosen = select(torch.tensor([False, False, True]), after, state)
    assert (chosen.length - state.length).tolist() == [0, 0, 1]


def test_a_new_segment_starts_in_a_running_state(model: CodecLM, batch: dict[str, Tensor]) -> None:
    state = model.initial_state(3, 40)
    first = torch.tensor([5, 0, 0])
    state = model.prefill(batch["text"], first, batch["prefix"], PREFIX_LENGTHS, state)
    assert state.length.tolist() == [9 + 16, 0, 0]  # three prefix vectors and five text vectors in three, and bos
    _, state = model.step(torch.full((3,), CONFIG.sos), state, first > 0)
    state = model.prefill(batch["text"], torch.tensor([0, 2, 0]), batch["prefix"], PREFIX_LENGTHS, state)
    assert state.length.tolist() == [9 + 16 + 1, 18 + 7, 0]
    assert state.position.tolist() == [17, 7, 0]
    logits, _ = model.step(torch.tensor([int(batch["codes"][0, 0]), CONFIG.sos, 0]), state, state.length > 0)
    torch.testing.assert_close(logits[:2], torch.stack([model(**batch).logits[0, 1], model(**batch).logits[1, 0]]))


def test_taking_codes_back(model: CodecLM, batch: dict[str, Tensor]) -> None:
    fed, state, expected = feed(batch), prefill(model, batch), []
    for codes in fed.T[:6]:
        logits, state = model.step(codes, state)
        expected.append(logits)
    state = state.taken_back(torch.full((3,), 3))
    logits, _ = model.step(fed[:, 3], state)
    torch.testing.assert_close(logits, expected[3])


def test_a_full_cache_is_an_error_only_for_active_rows(model: CodecLM, batch: dict[str, Tensor]) -> None:
    state = model.prefill(batch["text"], TEXT_LENGTHS, None, None, max_codes=0)
    longest = TEXT_LENGTHS == 5
    _, state = model.step(torch.zeros(3, dtype=torch.long), state, longest)
    assert state.length[0] == state.capacity
    kept = state.keys[0, :, :, : state.capacity].clone()
    _, state = model.step(torch.zeros(3, dtype=torch.long), state, ~longest)
    assert state.keys[0, :, :, : state.capacity].equal(kept)
    with pytest.raises(ValueError, match="cache is full at 17 entries"):
        model.step(torch.zeros(3, dtype=torch.long), state)


def test_padding_of_the_batch_changes_nothing(model: CodecLM, batch: dict[str, Tensor]) -> None:
    together = model(**batch).logits
    for row in range(3):
        text, codes, prefix = int(TEXT_LENGTHS[row]), int(CODE_LENGTHS[row]), int(PREFIX_LENGTHS[row])
        given = (batch["prefix"][row : row + 1, :prefix], PREFIX_LENGTHS[row : row + 1]) if prefix else (None, None)
        alone = model(
            batch["text"][row : row + 1, :text], TEXT_LENGTHS[row : row + 1],
            batch["codes"][row : row + 1, :codes], CODE_LENGTHS[row : row + 1], *given,
        ).logits  # fmt: skip
        torch.testing.assert_close(together[row, : codes + 1], alone[0], atol=1e-5, rtol=1e-5)


def test_no_gradient_to_future_codes_or_padding(model: CodecLM, batch: dict[str, Tensor]) -> None:
    text = batch["text"].requires_grad_()
    embedded: list[Tensor] = []

    def keep(module: torch.nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        output.retain_grad()
        embedded.append(output)

    with_hook = model.embedding.register_forward_hook(keep)
    model(**batch).logits[:, 3].sum().backward()
    with_hook.remove()
    gradient = embedded[0].grad
    assert gradient is not None
    assert gradient[:, 4:].abs().max() == 0
    assert gradient[:, :4].abs().amin(dim=(0, 1)).max() > 0
    assert text.grad is not None
    assert text.grad[1, 2:].abs().max() == 0


def test_context_looks_both_ways(model: CodecLM, batch: dict[str, Tensor]) -> None:
    text = batch["text"].requires_grad_()
    context, lengths = model.context(text, TEXT_LENGTHS)
    assert lengths.tolist() == [16, 7, 13]
    context[0, 1].sum().backward()
    assert text.grad is not None
    assert text.grad[0, 4].abs().min() > 0


def test_without_its_pre_network_a_text_vector_stands_alone(batch: dict[str, Tensor]) -> None:
    model = CodecLM(CodecLMConfig(**{**vars(CONFIG), "pre_network": False}))
    assert not [name for name, _ in model.named_parameters() if name.startswith("pre_nn.")]
    text = batch["text"].requires_grad_()
    context, _ = model.context(text, TEXT_LENGTHS)
    context[0, 1].sum().backward()
    assert text.grad is not None
    assert text.grad[0, 0].abs().max() > 0
    assert text.grad[0, 4].abs().max() == 0


def test_targets_and_loss() -> None:
    codes, lengths = torch.tensor([[1, 2, 3], [4, -1, -1]]), torch.tensor([3, 1])
    expected = targets(codes, lengths, CONFIG)
    assert expected.tolist() == [[1, 2, 3, CONFIG.eos], [4, CONFIG.eos, CONFIG.pad, CONFIG.pad]]
    logits = torch.zeros(2, 4, CONFIG.vocab_size)
    uniform = torch.tensor(float(CONFIG.vocab_size)).log()
    torch.testing.assert_close(cross_entropy(logits, expected, CONFIG), uniform)
    torch.testing.assert_close(cross_entropy(logits, expected, CONFIG, "sum"), 6 * uniform)
    logits[0, 0, 1] = 1
    assert float(accuracy(logits, expected, CONFIG)) == pytest.approx(1 / 6)


def test_a_prefix_needs_prefix_layers(batch: dict[str, Tensor]) -> None:
    model = CodecLM(CodecLMConfig(**{**vars(CONFIG), "prefix": False}))
    with pytest.raises(ValueError, match="no prefix layers"):
        model(**batch)
    with pytest.raises(ValueError, match="cannot be cut into 5"):
        CodecLMConfig(llm_dim=12, split=5)

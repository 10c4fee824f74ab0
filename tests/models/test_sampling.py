from pathlib import Path

import numpy as np
import pytest
import torch

from icebreaker.models.sampling import GREEDY, SamplingConfig, probabilities, sample

EXPECTED = Path(__file__).parent.parent / "golden" / "freeze-omni-tiny" / "expected"


def test_official_text_sampling() -> None:
    golden = np.load(EXPECTED / "llm_sampling.npz")
    logits = torch.from_numpy(golden["logits"])
    for (temperature, top_k, top_p), expected in zip(golden["cases"], golden["probs"], strict=True):
        config = SamplingConfig(temperature=temperature, top_k=int(top_k), top_p=top_p, top_p_rule="official")
        torch.testing.assert_close(probabilities(logits, config), torch.from_numpy(expected), atol=1e-6, rtol=0)


def test_official_speech_token_sampling() -> None:
    golden = np.load(EXPECTED / "decoder_topk.npz")
    window = int(golden["penalty_window"])
    config = SamplingConfig(
        top_k=int(golden["top_k"]),
        repetition_penalty=float(golden["penalty"]),
        penalty_rule="official",
        penalty_window=window,
    )
    sos = 65
    history = [sos]
    for token, logits, expected in zip(golden["tokens"], golden["raw_logits"], golden["filtered_probs"], strict=True):
        padded = torch.tensor([[-1] * window + history])
        got = probabilities(torch.from_numpy(logits)[None], config, padded)[0]
        torch.testing.assert_close(got, torch.from_numpy(expected), atol=1e-5, rtol=0)
        history.append(int(token))


LOGITS = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (SamplingConfig(), [0.5, 0.3, 0.15, 0.05]),
        (SamplingConfig(top_p=0.7), [0.625, 0.375, 0, 0]),  # the id that crosses 0.7 stays
        (SamplingConfig(top_p=0.7, top_p_rule="official"), [1, 0, 0, 0]),  # and here it goes
        (SamplingConfig(top_p=0.4, top_p_rule="official"), [1, 0, 0, 0]),
        (SamplingConfig(top_p=1.0), [0.5, 0.3, 0.15, 0.05]),
        (SamplingConfig(top_k=2), [0.625, 0.375, 0, 0]),
        (SamplingConfig(top_k=99), [0.5, 0.3, 0.15, 0.05]),
        (SamplingConfig(temperature=0.5), [0.25 / 0.365, 0.09 / 0.365, 0.0225 / 0.365, 0.0025 / 0.365]),
        (SamplingConfig(temperature=0), [1, 0, 0, 0]),
    ],
)  # fmt: skip
def test_steps_by_hand(config: SamplingConfig, expected: list[float]) -> None:
    torch.testing.assert_close(probabilities(LOGITS, config), torch.tensor([expected], dtype=torch.float32))


def test_repetition_penalty_by_hand() -> None:
    logits = torch.tensor([[2.0, -2.0, 1.0]])
    history = torch.tensor([[2, 0, 0, 1]])
    for rule, window, expected in [
        ("usual", 3, [1.0, -4.0, 1.0]),
        ("official", 3, [0.5, -1.0, 1.0]),  # id 0 twice; the negative logit of id 1 moves up
        ("usual", 9, [1.0, -4.0, 0.5]),
        ("usual", -1, [2.0, -2.0, 1.0]),
    ]:
        config = SamplingConfig(repetition_penalty=2.0, penalty_rule=rule, penalty_window=window)  # type: ignore[arg-type]
        torch.testing.assert_close(probabilities(logits, config, history), torch.tensor([expected]).softmax(-1))


def test_draws_follow_the_distribution() -> None:
    config = SamplingConfig(top_k=3)
    ids = sample(LOGITS.expand(20_000, 4), config, generator=torch.Generator().manual_seed(0))
    shares = torch.bincount(ids, minlength=4) / 20_000
    torch.testing.assert_close(shares, probabilities(LOGITS, config)[0], atol=0.01, rtol=0)
    assert shares[3] == 0


def test_a_row_with_its_own_generator_does_not_depend_on_the_others() -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(1))

    def generators() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in (5, 6, 7)]

    together, alone = generators(), generators()
    for _ in range(5):
        batch = sample(logits, SamplingConfig(), generator=together)
        rows = [sample(logits[i : i + 1], SamplingConfig(), generator=[alone[i]]) for i in range(3)]
        assert batch.tolist() == torch.cat(rows).tolist()


def test_greedy_takes_the_largest_after_the_penalty() -> None:
    logits = torch.tensor([[1.0, 3.0], [2.0, 1.0]])
    assert sample(logits, GREEDY).tolist() == [1, 0]
    config = SamplingConfig(top_k=1, repetition_penalty=4.0, penalty_window=1)
    assert sample(logits, config, torch.tensor([[1], [-1]])).tolist() == [0, 0]


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 1.5}, {"repetition_penalty": 0.0}], ids=str
)
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SamplingConfig(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one generator a row"):
        sample(torch.zeros(2, 3), SamplingConfig(), generator=[None])

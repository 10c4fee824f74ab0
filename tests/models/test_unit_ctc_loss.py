import pytest
import torch
from omni_golden import arrays, facts, omni_parts
from torch.nn import functional as F

from icebreaker.models.llm import LLM
from icebreaker.models.unit_ctc_loss import IGNORED, target_frames, unit_ctc_loss


def test_loss_and_gradients_match_the_official_ones() -> None:
    golden, known, decoder = arrays("g7_train"), facts("g7_train"), omni_parts().unit_ctc
    states = torch.zeros(2, 14, 64)
    states[0], states[1, :5] = golden["label_hidden_0"], golden["label_hidden_1"]
    lengths = torch.tensor([14, 5])
    frames = target_frames(lengths, golden["tgt_units"], 25)
    assert frames.tolist() == known["upsampled_lengths"]
    decoder.requires_grad_(True)
    try:
        logits, _ = decoder.train_forward(states, lengths, frames)
        torch.testing.assert_close(logits[0, :350], golden["ctc_logits_0"], atol=3e-3, rtol=0)
        torch.testing.assert_close(logits[1, :138], golden["ctc_logits_1"], atol=3e-3, rtol=0)
        loss = unit_ctc_loss(logits, frames, golden["tgt_units"])
        assert loss.item() == pytest.approx(known["stage2_ctc_loss"], rel=1e-4)
        loss.backward()
        ours = {name: weight.grad for name, weight in decoder.named_parameters() if weight.grad is not None}
        norms = {
            "input_proj.weight": ours["input.weight"],
            "input_proj.bias": ours["input.bias"],
            "layers.0.self_attn.q_proj.weight": ours["layers.0.qkv.weight"].chunk(3)[0],
            "layers.1.mlp.down_proj.weight": ours["layers.1.down.weight"],
            "layers.1.post_attention_layernorm.weight": ours["layers.1.mlp_norm.weight"],
            "output_proj.weight": ours["output.weight"],
            "output_proj.bias": ours["output.bias"],
        }
        expected = known["stage2_grad_l2"]
        assert {f"speech_generator.{name}" for name in norms} == expected.keys()
        for name, gradient in norms.items():
            assert gradient.norm().item() == pytest.approx(expected[f"speech_generator.{name}"], rel=1e-3), name
    finally:
        decoder.requires_grad_(False)
        decoder.zero_grad(set_to_none=True)


def test_the_language_model_loss_matches_the_official_one() -> None:
    golden, known, parts = arrays("g7_train"), facts("g7_train"), omni_parts()
    learning = {"llm": parts.llm.model, "adaptor": parts.adaptor}
    for module in learning.values():
        module.requires_grad_(True)
    try:
        hidden, labels = _hidden(parts.llm)
        logits = parts.llm.logits(hidden)
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
        assert loss.item() == pytest.approx(known["stage1_lm_loss"], rel=1e-4)
        for row in range(2):
            torch.testing.assert_close(
                hidden[row][labels[row] != IGNORED], golden[f"label_hidden_{row}"], atol=2e-4, rtol=0
            )
            torch.testing.assert_close(
                F.cross_entropy(logits[row, :-1], labels[row, 1:], reduction="none", ignore_index=IGNORED)[
                    labels[row, 1:] != IGNORED
                ],
                golden[f"label_nll_{row}"],
                atol=1e-3,
                rtol=0,
            )
        loss.backward()
        found = {**dict(parts.llm.model.named_parameters())} | {
            f"model.speech_projector.{name}": weight for name, weight in parts.adaptor.named_parameters()
        }
        for name, norm in known["stage1_grad_l2"].items():
            gradient = found[name].grad
            assert gradient is not None
            assert gradient.norm().item() == pytest.approx(norm, rel=1e-3), name
        assert known["joint_loss_lm_plus_ctc"] == pytest.approx(loss.item() + known["stage2_ctc_loss"], rel=1e-4)
    finally:
        for module in learning.values():
            module.requires_grad_(False)
            module.zero_grad(set_to_none=True)


def _hidden(llm: LLM) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states [2, L, D] and labels [2, L] of the stored batch, its speech put where the marks are."""
    golden, encoded = arrays("g7_train"), arrays("g2_encoder")
    rows = []
    for row, case in enumerate("ab"):
        ids = golden["input_ids"][row][golden["attention_mask"][row]]
        at = int((ids < 0).nonzero())
        speech = omni_parts().adaptor.whole(encoded[f"enc_{case}"][None])[0]
        rows.append(torch.cat([llm.embed(ids[None, :at])[0], speech, llm.embed(ids[None, at + 1 :])[0]]))
    longest = max(map(len, rows))
    embeddings = torch.stack([F.pad(row, (0, 0, 0, longest - len(row))) for row in rows])
    mask = torch.stack([torch.arange(longest) < len(row) for row in rows])
    return llm.train_forward(embeddings, mask), golden["merged_labels"]


def test_a_row_without_any_alignment_adds_nothing() -> None:
    logits = torch.randn(2, 6, 4)
    units = torch.tensor([[0, 1, IGNORED], [2, 2, 2]])
    both = unit_ctc_loss(logits, torch.tensor([6, 3]), units)  # 2 2 2 needs five frames
    alone = unit_ctc_loss(logits[:1], torch.tensor([6]), units[:1])
    assert both.item() == pytest.approx(alone.item() * 2 / 5, rel=1e-5)


@pytest.mark.parametrize("units", [[[IGNORED]], [[3]], [[-1]]])
def test_targets_that_are_no_units_are_refused(units: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="expected unit targets from 0 to 2"):
        unit_ctc_loss(torch.randn(1, 6, 4), torch.tensor([6]), torch.tensor(units))

from dataclasses import replace
from pathlib import Path

import pytest
import tiny_folder
import torch

from icebreaker.errors import CheckpointError
from icebreaker.models.llm import LLM
from icebreaker.nn.weights import weights_sha256
from icebreaker.training.llm_tuning import LoraSettings, TunedLLM, TuningConfig

LORA = TuningConfig(mode="lora", lora=LoraSettings(rank=2, targets=("q_proj", "v_proj")))


@pytest.fixture
def llm(tmp_path: Path) -> LLM:
    return LLM.load(tiny_folder.write_llm(tmp_path / "llm"))


def test_additions_begin_as_nothing_and_merge(llm: LLM, tmp_path: Path) -> None:
    embeddings, mask = torch.randn(1, 5, llm.width), torch.ones(1, 5, dtype=torch.bool)
    before, plain = llm.train_forward(embeddings, mask), weights_sha256(llm)
    tuned = TunedLLM(llm, LORA)
    assert torch.equal(llm.train_forward(embeddings, mask), before)
    learning = {name for name, parameter in llm.named_parameters() if parameter.requires_grad}
    assert len(learning) == 2 * 2 * 2  # two layers, two targets, two factors
    with torch.no_grad():
        for name, parameter in llm.named_parameters():
            if name in learning:
                parameter.add_(0.3)
    after = llm.train_forward(embeddings, mask)
    assert not torch.allclose(after, before)
    tuned.save(tmp_path / "tuned")
    loaded = LLM.load(tmp_path / "tuned")
    torch.testing.assert_close(loaded.train_forward(embeddings, mask), after, atol=1e-5, rtol=1e-5)
    assert weights_sha256(loaded) == weights_sha256(llm) != plain
    assert not any(parameter.requires_grad for parameter in llm.parameters())


def test_frozen_changes_nothing(llm: LLM, tmp_path: Path) -> None:
    before = weights_sha256(llm)
    tuned = TunedLLM(llm, TuningConfig(mode="frozen"))
    assert not tuned.learns
    assert not any(parameter.requires_grad for parameter in llm.parameters())
    assert weights_sha256(llm) == before


def test_layers_that_are_not_there(llm: LLM) -> None:
    with pytest.raises(CheckpointError, match="LoRA does not fit Qwen2ForCausalLM"):
        TunedLLM(llm, replace(LORA, lora=LoraSettings(targets=("no_such_layer",))))

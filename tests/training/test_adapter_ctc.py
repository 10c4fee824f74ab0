"""The adapter learns to speak in tokens: beside frozen encoder and LLM, resumed as uninterrupted, then handed on."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from speech import write_questions
from test_encoder_ctc import TOY, losses
from tiny_folder import write_llm

from icebreaker.data.manifest import Item
from icebreaker.models.adapter import AdapterConfig
from icebreaker.models.llm import LLM
from icebreaker.nn.weights import weights_sha256
from icebreaker.training import alignment, encoder_ctc
from icebreaker.training.adapter_ctc import AdapterCTCConfig, run
from icebreaker.training.ears import heard_ids
from icebreaker.training.heard_pool import drawn
from icebreaker.training.loop import OptimConfig
from icebreaker.training.speech_batches import SpeechConfig


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> AdapterCTCConfig:
    folder = tmp_path_factory.mktemp("adapter")
    questions, features = write_questions(folder / "questions")
    data = SpeechConfig(questions=questions, question_features=features, frames_per_batch=600)
    encoder_ctc.run(
        encoder_ctc.EncoderCTCConfig(
            output=str(folder / "encoder"), encoder=TOY, data=data, optim=OptimConfig(steps=1, lr=1e-3),
            evaluate_every=0,
        )
    )  # fmt: skip
    return AdapterCTCConfig(
        output=str(folder / "out"), llm=write_llm(folder / "llm"), encoder=str(folder / "encoder"),
        adapter=AdapterConfig(encoder_dim=16, llm_dim=32, vocabulary=259), data=data, recordings=8, rows=3,
        evaluate_every=0,
        optim=OptimConfig(steps=6, lr=3e-3, warmup=1, log_every=1, save_every=2),
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(config: AdapterCTCConfig) -> AdapterCTCConfig:
    run(config)
    return config


def test_llm_stays_and_the_loss_falls(finished: AdapterCTCConfig) -> None:
    stored = json.loads((Path(finished.output) / "config.json").read_text())
    assert stored["llm_sha256"]["before"] == stored["llm_sha256"]["after"] == weights_sha256(LLM.load(finished.llm))
    log = list(losses(finished.output).values())
    assert log[-1] < log[0]
    weights = load_file(Path(finished.output) / "model.safetensors")
    assert {key.split(".")[0] for key in weights} == {"adapter"}
    torch.testing.assert_close(weights["adapter.lookup.tokens"], LLM.load(Path(finished.llm)).embedding.weight)


def test_resumed_run_takes_the_same_steps(finished: AdapterCTCConfig, tmp_path: Path) -> None:
    broken = replace(finished, output=str(tmp_path))

    def stop(report: object) -> None:
        if getattr(report, "step", 0) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(broken, stop)
    run(broken)
    assert losses(broken.output) == losses(finished.output)


def test_alignment_goes_on_from_it(finished: AdapterCTCConfig, tmp_path: Path) -> None:
    config = alignment.AlignmentConfig(
        output=str(tmp_path), llm=finished.llm, encoder=finished.encoder, start_from=finished.output,
        adapter=finished.adapter, data=finished.data, evaluate_every=0, token_ctc_weight=0.5, max_new_tokens=2,
        optim=OptimConfig(steps=1, lr=1e-12, warmup=1),
    )  # fmt: skip
    alignment.run(config)
    before, after = (load_file(Path(each) / "model.safetensors") for each in (finished.output, tmp_path))
    for key, value in before.items():
        torch.testing.assert_close(after[key], value, atol=1e-9, rtol=1e-6)


def test_batches_depend_on_seed_and_number_only() -> None:
    pool = list(range(50))
    ahead = drawn(pool, 4, 0, 0)  # type: ignore[arg-type]
    first = [next(ahead) for _ in range(4)]
    late = drawn(pool, 4, 0, 2)  # type: ignore[arg-type]
    assert [next(late), next(late)] == first[2:]
    assert len({tuple(each) for each in first}) == 4


def test_a_plain_adapter_is_refused(config: AdapterCTCConfig) -> None:
    with pytest.raises(ValueError, match=r"set adapter\.vocabulary"):
        replace(config, adapter=AdapterConfig(encoder_dim=16, llm_dim=32))


def test_another_vocabulary_is_refused(config: AdapterCTCConfig, tmp_path: Path) -> None:
    other = replace(config, adapter=replace(config.adapter, vocabulary=7), output=str(tmp_path))
    with pytest.raises(ValueError, match=r"looks up \(7, 32\).*the LLM has \(259, 32\)"):
        run(other)


def test_the_first_word_may_be_said_as_it_is_later_in_a_sentence(finished: AdapterCTCConfig, tmp_path: Path) -> None:
    llm = LLM.load(Path(finished.llm))
    item = Item(id="x", audio=tmp_path, seconds=1.0, text="ab ab", voice="v", split="train")
    plain, spaced = (heard_ids(llm, item, leading_space=space) for space in (False, True))
    assert spaced[1:] == plain
    half = len(spaced) // 2
    assert spaced[:half] == spaced[half:]

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_encoder_ctc import losses, questions_and_encoder
from tiny_folder import write_llm

from icebreaker.config import load_toml
from icebreaker.errors import ConfigError
from icebreaker.models.adapter import AdapterConfig
from icebreaker.models.llm import LLM
from icebreaker.nn.weights import weights_sha256
from icebreaker.training import alignment
from icebreaker.training.error_rate import answered
from icebreaker.training.loop import OptimConfig
from icebreaker.training.scenes import CHUNK_FRAMES, SceneConfig, chunk_labels
from icebreaker.training.spoken_qa import SpokenQAConfig, run

MINI = Path(__file__).parents[2] / "configs" / "mini"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> SpokenQAConfig:
    folder = tmp_path_factory.mktemp("spoken_qa")
    data = questions_and_encoder(folder)
    one = OptimConfig(steps=1, lr=1e-3)
    llm = write_llm(folder / "llm")
    alignment.run(
        alignment.AlignmentConfig(
            output=str(folder / "alignment"), llm=llm, encoder=str(folder / "encoder"), data=data, optim=one,
            adapter=AdapterConfig(encoder_dim=16, llm_dim=32), prompts=3, evaluate_every=0, max_new_tokens=2,
        )
    )  # fmt: skip
    return SpokenQAConfig(
        output=str(folder / "out"),
        llm=llm,
        alignment=str(folder / "alignment"),
        data=replace(data, frame_multiple=CHUNK_FRAMES, max_tail_frames=112),
        optim=OptimConfig(steps=4, lr=1e-2, warmup=1, log_every=1, save_every=2),
        prompts=3,
        head_scenes=6,
        scenes_per_kind=4,
        evaluate_every=0,
        max_new_tokens=3,
    )


@pytest.fixture(scope="module")
def finished(config: SpokenQAConfig) -> SpokenQAConfig:
    run(config)
    return config


def test_only_prompts_and_head_move(finished: SpokenQAConfig) -> None:
    stored = json.loads((Path(finished.output) / "config.json").read_text())
    for name in ("llm_sha256", "ears_sha256"):
        assert stored[name]["before"] == stored[name]["after"]
    assert stored["llm_sha256"]["after"] == weights_sha256(LLM.load(finished.llm))
    before = load_file(Path(finished.alignment) / "model.safetensors")
    after = load_file(Path(finished.output) / "model.safetensors")
    assert set(after) == {
        "prompts.prompt_embeddings.weight", "prompts.task_embeddings.weight", "turn_head.linear.weight",
        "turn_head.linear.bias",
    }  # fmt: skip
    assert torch.equal(after["prompts.task_embeddings.weight"], before["prompts.task_embeddings.weight"])
    assert not torch.equal(after["prompts.prompt_embeddings.weight"], before["prompts.prompt_embeddings.weight"])
    assert after["turn_head.linear.weight"].shape == (4, 32)
    assert {"answered", "question_early", "question_never", "noise_answered", "text_to_text"} <= stored[
        "evaluation"
    ].keys()


def test_resumed_run_takes_the_same_steps(finished: SpokenQAConfig, tmp_path: Path) -> None:
    broken = replace(finished, output=str(tmp_path))

    def stop(report: object) -> None:
        if getattr(report, "step", 0) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(broken, stop)
    run(broken)
    assert losses(broken.output) == losses(finished.output)


def test_labels_listen_then_nothing_then_decide() -> None:
    labels = chunk_labels(160, 70, 1, SceneConfig(patience_frames=30, grace_frames=6))
    # chunks end at 16, 32, ... 160: up to 76 there may be speech, from 100 on it has been over for 300 ms
    assert labels.tolist() == [0, 0, 0, 0, 3, 3, 1, 1, 1, 1]
    assert chunk_labels(160, 70, 2, SceneConfig()).tolist()[-1] == 2


def test_answered_wants_what_the_question_does_not_say() -> None:
    question, answer = "what is the capital of spain", "The capital of Spain is Madrid."
    assert answered(question, answer, "It is Madrid.")
    assert not answered(question, answer, "The capital of Spain is Rome.")
    assert answered("say blue train", "Blue train.", "Blue train.")
    assert not answered("say blue train", "Blue train.", "Red train.")


def test_prompts_must_match_the_alignment(config: SpokenQAConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="prompts is 4 but stage alignment made 3"):
        run(replace(config, prompts=4, output=str(tmp_path)))


def test_mini_config_fits() -> None:
    config = load_toml(MINI / "spoken_qa.toml", SpokenQAConfig)
    assert config.data.frame_multiple == CHUNK_FRAMES
    assert config.prompts == load_toml(MINI / "alignment.toml", alignment.AlignmentConfig).prompts

import json
from dataclasses import replace
from pathlib import Path

import omni
import pytest
import torch
from transformers import AutoModelForCausalLM

from icebreaker.models.llm import LLM
from icebreaker.models.speech_adaptor import SpeechAdaptor, SpeechAdaptorConfig
from icebreaker.nn.weights import weights_sha256
from icebreaker.training.feature_augment import FeatureAugmentConfig
from icebreaker.training.hearing import load_ears, load_encoder
from icebreaker.training.llm_tuning import LoraSettings, TuningConfig
from icebreaker.training.speech_batches import SpeechConfig
from icebreaker.training.speech_instruct import Asker, SpeechInstructConfig, prompt_of, run
from icebreaker.training.stage_files import stage_config

LORA = TuningConfig(mode="lora", lora=LoraSettings(rank=2, alpha=4.0))


@pytest.fixture
def config(tmp_path: Path) -> SpeechInstructConfig:
    omni.write(tmp_path)
    return omni.stage_one(tmp_path)


def rows_of(config: SpeechInstructConfig) -> list[dict]:
    return [json.loads(line) for line in (config.output / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("mode", ["full", "lora", "frozen"])
def test_what_learns_and_what_does_not(config: SpeechInstructConfig, mode: str) -> None:
    before = LLM.load(config.llm)
    encoder = weights_sha256(load_encoder(config.encoder))
    run(replace(config, tuning=replace(LORA, mode=mode)))  # type: ignore[arg-type]
    left = stage_config(config.output)
    assert left["encoder_sha256"] == encoder == weights_sha256(load_encoder(config.encoder))
    assert weights_sha256(LLM.load(config.llm)) == weights_sha256(before)  # what was given is not written to
    if mode == "frozen":
        assert left["llm_weights_sha256"] == weights_sha256(before)
        assert not (config.output / "llm").exists()
        return
    tuned = LLM.load(config.output / "llm")  # a plain folder, additions merged in
    assert left["llm_weights_sha256"] == weights_sha256(tuned) != weights_sha256(before)
    old, new = (dict(each.model.named_parameters()) for each in (before, tuned))
    assert old.keys() == new.keys()
    moved = {name for name in old if not torch.equal(old[name], new[name])}
    if mode == "lora":
        assert moved == {name for name in old if "_proj.weight" in name}
    else:
        assert "model.embed_tokens.weight" in moved
        assert "model.layers.1.mlp.down_proj.weight" in moved


def test_low_rank_additions_are_low_rank(config: SpeechInstructConfig) -> None:
    run(replace(config, tuning=LORA))
    name = "model.layers.0.mlp.up_proj.weight"
    old, new = (
        AutoModelForCausalLM.from_pretrained(folder).get_parameter(name)
        for folder in (config.llm, config.output / "llm")
    )
    assert torch.linalg.matrix_rank((new - old).detach(), rtol=1e-4) == 2
    state = torch.load(config.output / "last.pt", weights_only=True)
    assert all("lora_" in key for key in state["modules"]["llm"])


@pytest.mark.parametrize("mode", ["full", "lora", "frozen"])
def test_a_resumed_run_equals_an_uninterrupted_one(config: SpeechInstructConfig, mode: str) -> None:
    config = replace(config, tuning=replace(LORA, mode=mode, lr_scale=0.5))  # type: ignore[arg-type]
    run(config)
    stopped = omni.stopped_and_resumed(run, config)
    for name in ("model.safetensors", *(["llm/model.safetensors"] if mode != "frozen" else [])):
        assert omni.same_weights(config.output / name, stopped.output / name)


def test_it_learns_to_answer(config: SpeechInstructConfig) -> None:
    longer = replace(config.optim, steps=60, accumulate=1, lr=1e-2, log_every=60)
    run(replace(config, optim=longer, tuning=TuningConfig(mode="full", lr_scale=0.5), max_new_tokens=16))
    first = replace(config, output=config.output.with_name("first"), optim=replace(longer, steps=1, lr=1e-9, warmup=0))
    run(first)
    assert rows_of(config)[-1]["evaluation"]["valid_answer"] < 0.5 * rows_of(first)[-1]["evaluation"]["valid_answer"]


def test_half_precision_and_the_lookup(config: SpeechInstructConfig) -> None:
    adaptor = replace(config.adaptor, stride=2, vocabulary=LLM.load(config.llm).vocab_size)
    optim = replace(config.optim, dtype="bfloat16")
    run(replace(config, adaptor=adaptor, token_ctc_weight=0.5, leading_space=True, optim=optim))
    parts = next(row for row in rows_of(config) if "loss" in row)
    assert parts["loss"] == pytest.approx(parts["answer"] + 0.5 * parts["token_ctc"], rel=1e-3)
    with pytest.raises(ValueError, match=r"set adaptor\.vocabulary"):
        replace(config, token_ctc_weight=0.5)


def test_cuts_are_heard_once_and_a_resumed_run_draws_the_same(config: SpeechInstructConfig) -> None:
    folder = config.output.parent / "questions"
    augment = FeatureAugmentConfig(gain=1.0, speed=1.0)
    cuts = SpeechConfig(
        questions=str(folder / "manifest.jsonl"), question_features=str(folder / "features"), frames_per_batch=600,
        augment=augment,
    )  # fmt: skip
    config = replace(config, cuts=cuts, recordings=24)
    run(config)
    stopped = omni.stopped_and_resumed(run, config)
    assert omni.same_weights(config.output / "model.safetensors", stopped.output / "model.safetensors")
    same = replace(config, output=config.output.with_name("plain"), cuts=replace(cuts, augment=FeatureAugmentConfig()))
    run(same)
    assert not omni.same_weights(config.output / "model.safetensors", same.output / "model.safetensors")
    with pytest.raises(ValueError, match="cuts are of features"):
        replace(config, encoder=None, whisper=folder)


def test_whispers_ears_from_a_hugging_face_folder(config: SpeechInstructConfig, tmp_path: Path) -> None:
    omni.write_whisper(tmp_path / "whisper")
    adaptor = SpeechAdaptorConfig(encoder_dim=8, llm_dim=32, stride=500, hidden=24)
    short = replace(config.optim, steps=1, accumulate=1)
    run(replace(config, encoder=None, whisper=tmp_path / "whisper", adaptor=adaptor, optim=short))
    ears = load_ears(None, tmp_path / "whisper")
    assert stage_config(config.output)["encoder_sha256"] == weights_sha256(ears.encoder)
    with pytest.raises(ValueError, match="either encoder"):
        replace(config, whisper=tmp_path / "whisper")


def test_the_speech_stands_in_the_chat(config: SpeechInstructConfig) -> None:
    llm = LLM.load(config.llm)
    asker = Asker(SpeechAdaptor(config.adaptor), llm, prompt_of(llm, "tokenizer", "Be kind.", "\nAnswer me."))
    before, speech, after = asker.contexts([torch.zeros(3, 32)])[0]
    written = llm.tokenizer.decode(asker.before + asker.after)
    assert written == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n\nAnswer me.<|im_end|>\n<|im_start|>assistant\n"
    )
    assert (len(before), len(speech), len(after)) == (len(asker.before), 3, len(asker.after))
    assert llm.tokenizer.decode([asker.end_id]) == "<|im_end|>"


def test_a_lookup_ends_in_the_llms_tokens(config: SpeechInstructConfig) -> None:
    llm = LLM.load(config.llm)
    adaptor = SpeechAdaptor(replace(config.adaptor, vocabulary=llm.vocab_size))
    assert adaptor.lookup is not None
    adaptor.lookup.follow(llm.embedding.weight)
    frames = torch.randn(2, 10, 12)
    vectors = adaptor.vectors(frames)
    torch.testing.assert_close(adaptor.whole(frames), adaptor.lookup(vectors))
    assert adaptor.whole(frames).norm(dim=-1).max() <= llm.embedding.weight.norm(dim=-1).max()
    assert torch.equal(adaptor(frames, adaptor.initial_state(2))[0], adaptor.whole(frames))

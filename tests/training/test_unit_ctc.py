import json
from dataclasses import replace
from pathlib import Path

import omni
import pytest
import torch
from safetensors.torch import load_file

from icebreaker.data.manifest import read_manifest, write_manifest
from icebreaker.errors import ConfigError, DataError
from icebreaker.models.llm import LLM
from icebreaker.nn.weights import weights_sha256
from icebreaker.training import speech_instruct
from icebreaker.training.hearing import load_encoder
from icebreaker.training.llm_tuning import TuningConfig
from icebreaker.training.stage_files import stage_config
from icebreaker.training.unit_ctc import HearingConfig, UnitCTCTrainingConfig, run
from icebreaker.training.unit_ctc_batches import ReadReplies, TextConfig

MODEL = omni.DECODER


@pytest.fixture
def heard(tmp_path: Path) -> UnitCTCTrainingConfig:
    """After a short stage 1 that tuned the LLM."""
    omni.write(tmp_path)
    tuned = omni.stage_one(
        tmp_path, output=tmp_path / "stage1", optim=replace(omni.OPTIM, steps=1), tuning=TuningConfig(mode="full"),
        evaluate_questions=2, max_new_tokens=2,
    )  # fmt: skip
    speech_instruct.run(tuned)
    return UnitCTCTrainingConfig(
        output=tmp_path / "out", llm=tmp_path / "stage1" / "llm", units=tmp_path / "units.jsonl", model=MODEL,
        optim=omni.OPTIM, hearing=HearingConfig(stage=tuned.output, questions=tuned.questions), evaluate_replies=4,
    )  # fmt: skip


@pytest.fixture
def read(tmp_path: Path) -> UnitCTCTrainingConfig:
    omni.write(tmp_path)
    items = read_manifest(tmp_path / "questions" / "manifest.jsonl")
    write_manifest(tmp_path / "answers.jsonl", [replace(item, text=item.answer or "", answer=None) for item in items])
    (tmp_path / "text").mkdir()
    turns = [{"role": "user", "text": "What now?"}, {"role": "assistant", "text": items[0].answer}]
    (tmp_path / "text" / "train.jsonl").write_text(json.dumps({"turns": turns}) + "\n")
    reading = TextConfig(answers=tmp_path / "answers.jsonl", conversations=tmp_path / "text", rows=4)
    return UnitCTCTrainingConfig(
        output=tmp_path / "out", llm=tmp_path / "llm", units=tmp_path / "units.jsonl", model=MODEL,
        optim=omni.OPTIM, reading=reading, evaluate_replies=4, guided_steps=2,
    )  # fmt: skip


def test_all_but_the_decoder_is_bit_identical(heard: UnitCTCTrainingConfig) -> None:
    assert heard.hearing is not None
    adaptor = heard.hearing.stage / "model.safetensors"
    before = weights_sha256(LLM.load(heard.llm)), weights_sha256(load_encoder(heard.llm.parents[1] / "encoder"))
    stored = adaptor.read_bytes(), (heard.llm / "model.safetensors").read_bytes()
    run(heard)
    left = stage_config(heard.output)
    assert (left["llm_weights_sha256"], left["encoder_sha256"]) == before
    assert len(left["adaptor_sha256"]) == 64
    assert (adaptor.read_bytes(), (heard.llm / "model.safetensors").read_bytes()) == stored
    assert {key.split(".")[0] for key in load_file(heard.output / "model.safetensors")} == {"unit_ctc"}
    assert torch.load(heard.output / "last.pt", weights_only=True)["modules"].keys() == {"unit_ctc"}


@pytest.mark.parametrize("kind", ["heard", "read"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_resumed_run_equals_an_uninterrupted_one(kind: str, dtype: str, request: pytest.FixtureRequest) -> None:
    config = request.getfixturevalue(kind)
    config = replace(config, optim=replace(config.optim, dtype=dtype))
    run(config)
    stopped = omni.stopped_and_resumed(run, config)
    assert omni.same_weights(config.output / "model.safetensors", stopped.output / "model.safetensors")


def test_a_second_run_begins_where_the_first_ended(read: UnitCTCTrainingConfig) -> None:
    run(read)
    still = replace(read, output=read.output / "again", start_from=read.output, optim=replace(read.optim, lr=0.0))
    run(still)
    assert omni.same_weights(read.output / "model.safetensors", still.output / "model.safetensors")


def test_it_learns_to_speak(read: UnitCTCTrainingConfig) -> None:
    longer = replace(read.optim, steps=120, accumulate=1, log_every=120)
    run(replace(read, model=replace(MODEL, states="reading"), optim=longer))
    rows = [json.loads(line) for line in (read.output / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["evaluation"]["valid_loss"] < 0.5
    assert rows[-1]["evaluation"]["unit_error"] < 0.25


def test_being_told_where_units_lie_is_enough_to_say_most(read: UnitCTCTrainingConfig) -> None:
    longer = replace(read.optim, steps=120, accumulate=1, log_every=120)
    run(replace(read, model=replace(MODEL, states="reading"), optim=longer, guided_steps=120))
    rows = [json.loads(line) for line in (read.output / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["evaluation"]["unit_error"] < 0.5


def test_sentences_stand_in_their_conversations(read: UnitCTCTrainingConfig) -> None:
    assert read.reading is not None
    llm = LLM.load(read.llm)
    units = {item.id: torch.tensor([1, 2]) for item in read_manifest(read.reading.answers)}
    source = ReadReplies(read.reading, "train", llm, units)
    said = [reply for batch in source.fixed(100) for reply in batch if reply.context == ("What now?",)]
    assert {reply.item.text for reply in said} == {source.items[0].text}
    neutral = {reply.context for batch in source.fixed(100) for reply in batch} - {("What now?",)}
    assert neutral == {("Please say something.",)}
    for rule, more in (("predicting", 1), ("reading", 0)):
        states = source.states(said[:1], rule)  # type: ignore[arg-type]
        assert states[0].shape == (len(said[0].item.text.encode()) + more, 32)
    often = ReadReplies(replace(read.reading, conversation_share=1.0), "train", llm, units)
    assert {reply.item.text for reply in next(often.batches(0, 0))} == {source.items[0].text}


def test_the_llm_must_be_stage_ones(heard: UnitCTCTrainingConfig) -> None:
    untuned = heard.llm.parents[1] / "llm"
    with pytest.raises(ConfigError, match="left an LLM of fingerprint"):
        run(replace(heard, llm=untuned))


def test_what_does_not_fit(read: UnitCTCTrainingConfig) -> None:
    with pytest.raises(ConfigError, match=r"model\.llm_dim is 64, the LLM .* is 32 wide"):
        run(replace(read, model=replace(MODEL, llm_dim=64)))
    with pytest.raises(DataError, match=r"holds unit 4, model.units is 4"):
        run(replace(read, model=replace(MODEL, units=4)))
    with pytest.raises(ValueError, match="either hearing"):
        replace(read, reading=None)
    assert read.reading is not None
    with pytest.raises(DataError, match="no recording of split 'train' has units"):
        ReadReplies(read.reading, "train", LLM.load(read.llm), {})

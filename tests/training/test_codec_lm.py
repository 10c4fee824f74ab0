"""Stages codec_lm and codec_lm_prefix at toy sizes, with the golden tiny LLM."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toy_answers import MODEL, OPTIM, TEXTS, data, stage_two, write_answers

from icebreaker.config import load_toml
from icebreaker.errors import ConfigError, DataError
from icebreaker.models.codec_lm import CodecLM
from icebreaker.models.codec_lm_loss import alignment_loss
from icebreaker.models.llm import LLM
from icebreaker.nn.weights import weights_sha256
from icebreaker.training import codec_lm, codec_lm_prefix
from icebreaker.training.answer_states import AnswerStates, as_heard, read_contexts
from icebreaker.training.codec_lm_batches import PAUSE, AnswerSource

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("answers")
    write_answers(folder)
    return folder


@pytest.fixture(scope="module")
def llm(folder: Path) -> LLM:
    return LLM.load(folder / "llm")


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    codec_lm.run(stage_two(folder, folder / "stage2"))
    return folder / "stage2"


def interrupt_after(step: int):  # type: ignore[no-untyped-def]
    def progress(report) -> None:  # type: ignore[no-untyped-def]
        if report.step == step:
            raise KeyboardInterrupt

    return progress


def test_a_second_round_begins_where_the_first_ended(folder: Path, trained: Path, tmp_path: Path) -> None:
    config = stage_two(folder, tmp_path)
    still = dataclasses.replace(config.optim, steps=1, lr=0.0)
    codec_lm.run(dataclasses.replace(config, start_from=trained, optim=still))
    ours, theirs = (load_file(each / "model.safetensors") for each in (tmp_path, trained))
    assert all(ours[key].equal(theirs[key]) for key in theirs)


def test_resumed_equals_uninterrupted(folder: Path, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        codec_lm.run(stage_two(folder, tmp_path), interrupt_after(3))
    codec_lm.run(stage_two(folder, tmp_path))
    ours, theirs = (load_file(each / "model.safetensors") for each in (tmp_path, trained))
    assert ours.keys() == theirs.keys()
    assert all(ours[key].equal(theirs[key]) for key in ours)


def test_the_llm_stays_and_is_named(folder: Path, trained: Path, llm: LLM) -> None:
    settings = json.loads((trained / "config.json").read_text())
    assert settings["llm_sha256"] == llm.sha256
    assert settings["llm_weights_sha256"] == weights_sha256(LLM.load(folder / "llm"))
    assert settings["model"]["codes"] == 16
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    evaluations = [row["evaluation"] for row in rows if "evaluation" in row]
    assert len(evaluations) == 2
    assert 0 <= evaluations[-1]["valid_accuracy"] <= 1
    assert {"codes", "accuracy", "alignment"} <= rows[0].keys()


def test_prefix_stage_moves_prefix_layers_only(folder: Path, trained: Path, tmp_path: Path) -> None:
    config = codec_lm_prefix.CodecLMPrefixConfig(
        output=tmp_path, llm=folder / "llm", codec_lm=trained, conversations=folder, data=data(folder), optim=OPTIM,
        evaluate_every=2, evaluate_answers=3,
    )  # fmt: skip
    codec_lm_prefix.run(config)
    before, after = (load_file(each / "model.safetensors") for each in (trained, tmp_path))
    new = {key for key in after if ".prefix_" in key}
    assert after.keys() - new == before.keys()
    assert all(after[key].equal(before[key]) for key in before)
    settings = json.loads((tmp_path / "config.json").read_text())
    assert settings["llm_weights_sha256"] == weights_sha256(LLM.load(folder / "llm"))  # as it was before
    moved = [key for key in new if not after[key].equal(before.get(key.replace("prefix_layers", "layers"), after[key]))]
    assert {"codec_lm.prefix_layers.0.qkv.weight", "codec_lm.prefix_layers.1.qkv.weight"} <= set(moved)
    again = tmp_path / "again"
    with pytest.raises(KeyboardInterrupt):
        codec_lm_prefix.run(dataclasses.replace(config, output=again), interrupt_after(3))
    codec_lm_prefix.run(dataclasses.replace(config, output=again))
    resumed = load_file(again / "model.safetensors")
    assert all(resumed[key].equal(after[key]) for key in after)
    plain = stage_two(folder, tmp_path / "plain")  # stage 2 goes on from it, without the prefix layers
    codec_lm.run(dataclasses.replace(plain, start_from=tmp_path, optim=dataclasses.replace(OPTIM, steps=1, lr=0.0)))
    kept = load_file(tmp_path / "plain" / "model.safetensors")
    assert kept.keys() == before.keys()
    assert all(kept[key].equal(before[key]) for key in before)


def test_batches_depend_on_seed_and_number_only(folder: Path, llm: LLM) -> None:
    source = AnswerSource(data(folder), "train", llm)
    stream = source.batches(0, seed=5)
    third = [next(stream) for _ in range(3)][2]
    again, other = next(source.batches(2, seed=5)), next(source.batches(2, seed=6))
    assert third.codes.equal(again.codes)
    assert third.text.equal(again.text)
    assert third.codes.shape != other.codes.shape or not third.codes.equal(other.codes)


def test_batches_that_are_taken_together_are_about_as_long(folder: Path, llm: LLM) -> None:
    """The texts have 8, 16, 24 and 32 codes; of a pool of many pairs the same place is taken twice, then another."""
    source = AnswerSource(data(folder, pool=40, part_share=0.0, alike=2), "train", llm)
    stream = source.batches(0, seed=1)
    pairs = [[int(next(stream).code_lengths.max()) for _ in range(2)] for _ in range(12)]
    assert all(abs(one - other) <= 8 for one, other in pairs)  # a bound between two lengths may lie at the place
    assert len({one for one, _ in pairs}) == 4


def test_pieces_are_cut_between_words(folder: Path, llm: LLM) -> None:
    source = AnswerSource(data(folder), "train", llm)
    head, tail = source.piece(2, 0, 2), source.piece(2, 2, None)
    assert (head.text, head.start, head.stop) == ("A cat", 0, 16)  # the third word begins at 0.4 s, 40 codes a second
    assert (tail.text, tail.start, tail.stop) == (" has four legs.", 16, 24)
    assert source.piece(0, 0, None, space=True).text == " The sky is blue."
    batch = source.batch([head], 0)
    ids = llm.tokenizer.encode("A cat", add_special_tokens=False)
    assert batch.text[0].equal(llm.embed(torch.tensor(ids)))
    first, last = batch.first[0], batch.last[0]
    assert first[:4].tolist() == [0] * 4  # the word A, 0.1 s
    assert first[4:8].tolist() == [PAUSE] * 4
    assert llm.tokenizer.decode(ids[int(first[8]) : int(last[8])]).strip() == "cat"
    assert first[16] == PAUSE  # eos


def test_all_takes_of_a_recording_are_drawn_with_their_words_as_late_as_they_are(
    folder: Path, llm: LLM, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in (folder / "codes.jsonl").read_text().splitlines()]
    late = [{**row, "delay_s": 0.05, "codes": [1, 2, *row["codes"]]} for row in rows]
    (tmp_path / "codes.jsonl").write_text("\n".join(map(json.dumps, rows + late)))
    source = AnswerSource(data(folder, codes=tmp_path / "codes.jsonl"), "train", llm)
    rng = np.random.default_rng(0)
    assert {source.draw(rng).take for _ in range(40)} == {0, 1}
    head, tail = source.piece(2, 0, 2, take=1), source.piece(2, 2, None, take=1)
    assert (head.start, head.stop, tail.start, tail.stop) == (0, 18, 18, 26)
    batch = source.batch([head, source.piece(2, 0, 2)], 0)
    assert batch.codes[0, 2:18].equal(batch.codes[1, :16])
    assert batch.first[0, 2:18].equal(batch.first[1, :16])  # the same words, two codes later


def test_states_predict_the_answer(folder: Path, llm: LLM) -> None:
    contexts = read_contexts(folder / "train.jsonl", set(TEXTS), per_answer=2)
    assert contexts[TEXTS[0]] == [("Tell me.",), ("Tell me.",)]
    assert TEXTS[3] not in contexts
    assert as_heard(("Tell me, Ann.", "No!", "Why?")) == (" tell me ann", "No!", " why")
    states = AnswerStates(llm, contexts)
    answer = TEXTS[2]
    whole = states.of(answer, 0, len(answer), 0)
    ids = llm.tokenizer.encode(answer, add_special_tokens=False)
    assert whole.shape == (len(ids), 128)
    parts = [states.of(answer, 0, 6, 0), states.of(answer, 6, len(answer), 0)]
    assert torch.cat(parts).equal(whole)
    prompt = states.prompt
    fed = [*prompt.before_ids, *prompt.prefix_ids(True), *llm.tokenizer.encode("Tell me."), *prompt.suffix_ids]
    hidden = llm.train_forward(llm.embed(torch.tensor([fed])), torch.ones(1, len(fed), dtype=torch.bool))
    torch.testing.assert_close(hidden[0, -1], whole[0], atol=1e-5, rtol=1e-4)


def test_alignment_loss_is_the_attention_to_the_word(folder: Path, llm: LLM) -> None:
    torch.manual_seed(0)
    source = AnswerSource(data(folder), "train", llm)
    batch = source.batch([source.piece(0, 0, None), source.piece(3, 0, None)], 0)
    model = CodecLM(MODEL).eval()
    taught = model(batch.text, batch.text_lengths, batch.codes, batch.code_lengths)
    layer = model.layers[1]
    with torch.no_grad():
        layer.qkv.weight.zero_()  # every allowed position gets the same attention
    taught = model(batch.text, batch.text_lengths, batch.codes, batch.code_lengths)
    first, last = torch.full_like(batch.first, PAUSE), torch.full_like(batch.last, PAUSE)
    first[1, 3], last[1, 3] = 0, 2
    loss = alignment_loss(taught, first, last, layer=1, split=4)
    allowed = 1 + 4 * int(batch.text_lengths[1]) + 4  # bos, text, sos and three codes
    assert float(loss.detach().exp()) == pytest.approx(allowed / 8, rel=1e-4)


def test_noise_is_fed_but_not_learnt(folder: Path, llm: LLM) -> None:
    torch.manual_seed(0)
    source = AnswerSource(data(folder), "train", llm)
    batch = source.batch([source.piece(2, 0, None)], 0)
    model = CodecLM(dataclasses.replace(MODEL, dropout=0.0))
    with torch.no_grad():
        model.head.weight.zero_()  # whatever is fed, the logits are the same
        model.head.bias.normal_()
        quiet, noisy = (codec_lm.loss_of(model, batch, noise=noise)[0] for noise in (0.0, 1.0))
        torch.testing.assert_close(quiet, noisy)
        torch.nn.init.normal_(model.head.weight)
        quiet, noisy = (codec_lm.loss_of(model, batch, noise=noise)[0] for noise in (0.0, 1.0))
    assert abs(float(quiet - noisy)) > 1e-3


def test_what_the_llm_says_is_drawn_more_often(folder: Path, llm: LLM) -> None:
    """The conversations of the fixture hold three of the four texts."""
    rng = np.random.default_rng(0)
    for share, low, high in ((1.0, 0, 0), (0.5, 30, 80)):
        source = AnswerSource(data(folder, conversations=folder, conversation_share=share), "train", llm)
        drawn = [source.answers[source.draw(rng).answer].text for _ in range(400)]
        assert low <= drawn.count(TEXTS[3]) <= high  # one of four: 12.5 % of the draws at a share of a half


def test_missing_codes_are_named(folder: Path, llm: LLM, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"codes\.jsonl: cannot read codes"):
        AnswerSource(data(folder, codes=tmp_path / "codes.jsonl"), "train", llm)
    (tmp_path / "codes.jsonl").write_text("")
    with pytest.raises(DataError, match="no codes for any 'train' recording"):
        AnswerSource(data(folder, codes=tmp_path / "codes.jsonl"), "train", llm)


def test_the_configurations_fit() -> None:
    plain = load_toml(ROOT / "configs" / "mini" / "codec_lm.toml", codec_lm.CodecLMTrainingConfig)
    prefix = load_toml(ROOT / "configs" / "mini" / "codec_lm_prefix.toml", codec_lm_prefix.CodecLMPrefixConfig)
    assert prefix.codec_lm == plain.output
    assert prefix.llm == plain.llm
    for name in ("answers", "codes", "word_times", "conversations"):
        assert getattr(prefix.data, name) == getattr(plain.data, name)
    with pytest.raises(ConfigError, match=r"model\.prefix must be false"):
        load_toml(ROOT / "configs" / "mini" / "codec_lm.toml", codec_lm.CodecLMTrainingConfig, ["model.prefix=true"])

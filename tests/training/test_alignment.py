import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from speech import write_questions
from test_encoder_ctc import TOY, losses
from tiny_folder import write_llm

from icebreaker.checkpoints.stage_folders import UNPACKED
from icebreaker.config import load_toml
from icebreaker.data.manifest import Item, read_manifest, write_manifest
from icebreaker.errors import ConfigError
from icebreaker.models.adapter import AdapterConfig
from icebreaker.models.llm import LLM
from icebreaker.nn.weights import weights_sha256
from icebreaker.training import encoder_ctc
from icebreaker.training.adapter_ctc import AdapterCTCConfig
from icebreaker.training.alignment import AlignmentConfig, run, slow_down
from icebreaker.training.ears import Chat, load_ears
from icebreaker.training.llm_layout import continue_greedily, ids_of, pack, score
from icebreaker.training.loop import OptimConfig, Run
from icebreaker.training.spec_augment import SpecAugmentConfig
from icebreaker.training.speech_batches import SpeechConfig, SpeechSource

MINI = Path(__file__).parents[2] / "configs" / "mini"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> AlignmentConfig:
    folder = tmp_path_factory.mktemp("alignment")
    questions, features = write_questions(folder / "questions")
    data = SpeechConfig(questions=questions, question_features=features, frames_per_batch=600)
    encoder_ctc.run(
        encoder_ctc.EncoderCTCConfig(
            output=str(folder / "encoder"),
            encoder=TOY,
            data=data,
            optim=OptimConfig(steps=2, lr=1e-3),
            evaluate_every=0,
        )
    )
    return AlignmentConfig(
        output=str(folder / "out"),
        llm=write_llm(folder / "llm"),
        encoder=str(folder / "encoder"),
        adapter=AdapterConfig(encoder_dim=16, llm_dim=32, vocabulary=259),
        data=data,
        optim=OptimConfig(steps=4, lr=3e-3, warmup=1, log_every=1, save_every=2),
        prompts=3,
        token_ctc_weight=0.5,
        evaluate_every=0,
        max_new_tokens=4,
    )


@pytest.fixture(scope="module")
def finished(config: AlignmentConfig) -> AlignmentConfig:
    run(config)
    return config


def test_llm_stays_bit_identical_and_the_rest_trains(finished: AlignmentConfig) -> None:
    stored = json.loads((Path(finished.output) / "config.json").read_text())
    assert stored["llm_sha256"]["before"] == stored["llm_sha256"]["after"] == weights_sha256(LLM.load(finished.llm))
    before = load_file(Path(finished.encoder) / "model.safetensors")
    after = load_file(Path(finished.output) / "model.safetensors")
    assert {key.split(".")[0] for key in after} == {"encoder", "adapter", "prompts", "ctc"}
    assert after["prompts.prompt_embeddings.weight"].shape == (3, 32)
    moved = {key for key in before if key.startswith("encoder.") and not torch.equal(before[key], after[key])}
    assert "encoder.layers.0.attention.query.weight" in moved
    assert not moved & {"encoder.mean", "encoder.istd"}


def test_resumed_run_takes_the_same_steps(finished: AlignmentConfig, tmp_path: Path) -> None:
    broken = replace(finished, output=str(tmp_path))

    def stop(report: object) -> None:
        if getattr(report, "step", 0) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(broken, stop)
    run(broken)
    assert losses(broken.output) == losses(finished.output)


def test_log_has_both_layouts_and_both_ctc_losses(finished: AlignmentConfig) -> None:
    first = json.loads((Path(finished.output) / "metrics.jsonl").read_text().splitlines()[0])
    assert first["transcript"] > 0
    assert first["answer"] > 0
    total = first["answer"] + first["transcript"] + 0.3 * first["ctc"] + 0.5 * first["token_ctc"]
    assert first["loss"] == pytest.approx(total, rel=1e-5)


def test_tokens_come_first_and_the_llm_after_them(finished: AlignmentConfig, tmp_path: Path) -> None:
    """A run without any loss through the LLM, and another that goes on from its encoder and adapter."""
    first = replace(
        finished, output=str(tmp_path / "tokens"), answer_share=0.0, transcript_weight=0.0,
        optim=replace(finished.optim, steps=2),
    )  # fmt: skip
    run(first)
    steps = [json.loads(line) for line in (tmp_path / "tokens" / "metrics.jsonl").read_text().splitlines()]
    assert {"ctc", "token_ctc"} <= steps[0].keys()
    assert not {"answer", "transcript"} & steps[0].keys()
    second = replace(
        finished, output=str(tmp_path / "llm"), encoder=first.output, start_from=first.output,
        encoder_lr_scale=0.0, optim=replace(finished.optim, steps=1),
    )  # fmt: skip
    run(second)
    before, after = (load_file(Path(each.output) / "model.safetensors") for each in (first, second))
    assert all(torch.equal(before[key], after[key]) for key in before if key.startswith("encoder."))
    steps = [json.loads(line) for line in (tmp_path / "llm" / "metrics.jsonl").read_text().splitlines()]
    assert {"answer", "transcript"} & steps[0].keys()


def test_a_batch_without_answers_teaches_nothing_where_answers_are_all_there_is(
    finished: AlignmentConfig, tmp_path: Path
) -> None:
    words, features = write_questions(tmp_path / "words")
    write_manifest(Path(words), [replace(item, answer=None) for item in read_manifest(Path(words))])
    data = replace(finished.data, words=words, word_features=features, words_weight=0.999, frames_per_batch=150)
    assert not any(item.answer for item in SpeechSource(data).batch(0).items)
    alone = replace(
        finished, output=str(tmp_path / "out"), data=data, optim=replace(finished.optim, steps=1), ctc_weight=0.0,
        transcript_weight=0.0, answered_only=True,
    )  # fmt: skip
    run(alone)
    (row,) = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()[:1]]
    assert (row["step"], row["loss"]) == (1, 0.0)


def test_slow_down_scales_the_rate_of_one_module() -> None:
    fast, slow = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
    training = Run({"fast": fast, "slow": slow}, OptimConfig(steps=1, lr=0.1, weight_decay=0.0))
    slow_down(training, slow, 0.25)
    old = [module.bias.detach().clone() for module in (fast, slow)]
    (fast.bias.sum() + slow.bias.sum()).backward()
    for group in training.optimizer.param_groups:
        group["lr"] = 0.1
    training.optimizer.step()
    torch.testing.assert_close(old[0] - fast.bias, torch.full((4,), 0.1))
    torch.testing.assert_close(old[1] - slow.bias, torch.full((4,), 0.025))


def test_score_is_the_plain_cross_entropy(finished: AlignmentConfig) -> None:
    llm = LLM.load(finished.llm)
    context, target, end = ids_of(llm, "what is it"), ids_of(llm, "a cat"), llm.eos_ids[0]
    rows = [[llm.embed(torch.tensor([context]))[0]], [llm.embed(torch.tensor([context[:3]]))[0]]]
    scored = score(llm, rows, [target, []], end)
    whole = torch.tensor([[*context, *target, end]])
    logits = llm.model(input_ids=whole).logits[0, len(context) - 1 : -1]
    expected = torch.nn.functional.cross_entropy(logits, whole[0, len(context) :], reduction="none")
    torch.testing.assert_close(scored.losses, expected, atol=1e-4, rtol=1e-4)
    assert scored.rows.tolist() == [0] * (len(target) + 1)


def test_greedy_continuation_matches_the_library(finished: AlignmentConfig) -> None:
    llm = LLM.load(finished.llm)
    contexts = [ids_of(llm, "hello there"), ids_of(llm, "hi")]
    said = continue_greedily(llm, [[llm.embed(torch.tensor([ids]))[0]] for ids in contexts], -1, 5)
    for ids, row in zip(contexts, said, strict=True):
        ours = list(ids)
        for _ in range(5):
            ours.append(int(llm.model(input_ids=torch.tensor([ours])).logits[0, -1].argmax()))
        assert row == ours[len(ids) :]


def test_a_layer_in_the_middle_may_spell_and_the_encoder_grow(config: AlignmentConfig, tmp_path: Path) -> None:
    """With the character loss alone, what is above its layer does not learn."""
    deeper = replace(
        config, output=str(tmp_path / "deep"), doubled_layers=(1,), ctc_layer=1, ctc_weight=1.0, token_ctc_weight=0.0,
        transcript_weight=0.0, answer_share=0.0, encoder_lr_scale=1.0, spec_augment=SpecAugmentConfig(time_masks=0),
    )  # fmt: skip
    run(deeper)
    ears = load_ears(tmp_path / "deep")
    assert ears.encoder.config.layers == TOY.layers + 1
    before = load_file(Path(config.encoder) / "model.safetensors")
    learnt, above = (ears.encoder.layers[i].attention.query.weight for i in (0, 1))  # type: ignore[union-attr]
    assert not torch.equal(learnt, before["encoder.layers.0.attention.query.weight"])  # type: ignore[arg-type]
    torch.testing.assert_close(above, before["encoder.layers.0.attention.query.weight"], atol=1e-3, rtol=0)  # type: ignore[arg-type]
    assert not ears.encoder.layers[1].attention.out.weight.any()  # type: ignore[union-attr,operator]
    with pytest.raises(ConfigError, match="ctc_layer: expected one of"):
        run(replace(config, output=str(tmp_path / "none"), ctc_layer=9))
    with pytest.raises(ValueError, match="ctc_layer: expected a layer from 1"):
        replace(config, ctc_layer=-1)


def test_pack_pads_on_the_right() -> None:
    embeddings, mask = pack([[torch.ones(2, 3), torch.ones(1, 3)], [torch.ones(1, 3)]])
    assert mask.tolist() == [[True] * 3, [True, False, False]]
    assert embeddings.sum(dim=2).tolist() == [[3, 3, 3], [3, 0, 0]]


def test_chat_restores_the_written_question(finished: AlignmentConfig, tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        turns = [{"role": "user", "text": "What's Spain?"}, {"role": "assistant", "text": "A country."}]
        (tmp_path / f"{split}.jsonl").write_text(json.dumps({"id": "x", "system": None, "turns": turns}) + "\n")
    llm = LLM.load(finished.llm)
    chat = Chat(llm, str(tmp_path))
    from_manifest = load_item("what's spain", "A country.")
    assert chat.text(from_manifest) == "What's Spain?"
    assert chat.text(load_item("go home", None)) == "Go home."
    conversation = [{"role": "system", "content": "You are a helpful assistant."}]
    conversation += [{"role": "user", "content": "What's Spain?"}]
    expected = llm.tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    torch.testing.assert_close(
        torch.cat(chat.asking(from_manifest)), llm.embed(torch.tensor([ids_of(llm, expected)]))[0]
    )


def load_item(text: str, answer: str | None) -> Item:
    return Item(id="x", audio=Path("x.wav"), seconds=1.0, text=text, answer=answer)


def test_mini_config_fits() -> None:
    config = load_toml(MINI / "alignment.toml", AlignmentConfig)
    assert config.adapter.kind == "subsampling"
    assert config.conversations
    tokens = load_toml(MINI / "alignment_tokens.toml", AlignmentConfig)
    wide = load_toml(MINI / "alignment_wide.toml", AlignmentConfig)
    sentences = load_toml(MINI / "alignment_sentences.toml", AlignmentConfig)
    voices = load_toml(MINI / "alignment_voices.toml", AlignmentConfig)
    longer = load_toml(MINI / "alignment_long.toml", AlignmentConfig)
    revoiced = load_toml(MINI / "alignment_revoiced.toml", AlignmentConfig)
    deep = load_toml(MINI / "alignment_deep.toml", AlignmentConfig)
    noise = load_toml(MINI / "alignment_noise.toml", AlignmentConfig)
    mixed = load_toml(MINI / "alignment_mixed.toml", AlignmentConfig)
    rounds = (config, mixed, noise, deep, revoiced, longer, voices, sentences, wide, tokens)
    for later, earlier in pairwise(rounds):
        assert later.start_from == later.encoder == earlier.output
    assert voices.blend_with == sentences.start_from
    before = load_toml(MINI / "adapter_ctc.toml", AdapterCTCConfig)
    assert (tokens.start_from, tokens.encoder, tokens.llm) == (before.output, before.encoder, before.llm)
    assert all(each.adapter == before.adapter for each in rounds)
    with pytest.raises(ValueError, match="looks tokens up"):
        replace(config, adapter=replace(config.adapter, vocabulary=0))


@pytest.mark.parametrize("head_first", [2, 1])
def test_the_character_head_of_an_unpacked_bundle_learns_alone_first(
    config: AlignmentConfig, tmp_path: Path, head_first: int
) -> None:
    unpacked = Path(shutil.copytree(config.encoder, tmp_path / "unpacked"))
    weights = {k: v for k, v in load_file(unpacked / "model.safetensors").items() if not k.startswith("ctc.")}
    save_file(weights, unpacked / "model.safetensors")
    described = json.loads((unpacked / "config.json").read_text())
    (unpacked / "config.json").write_text(json.dumps({**described, UNPACKED: "mini"}))
    spelling_alone = replace(
        config, output=str(tmp_path / "out"), encoder=str(unpacked), head_first=head_first, ctc_weight=1.0,
        answer_share=0.0, transcript_weight=0.0, token_ctc_weight=0.0, optim=replace(config.optim, steps=2),
    )  # fmt: skip
    run(spelling_alone)
    after = load_file(tmp_path / "out" / "model.safetensors")
    moved = {key for key in weights if key.startswith("encoder.") and not torch.equal(weights[key], after[key])}
    assert bool(moved) is (head_first == 1), "the second step teaches the encoder, or neither does"
    first, second = losses(str(tmp_path / "out")).values()
    assert first != second, "the head learns"


def test_ears_can_go_half_of_the_way(finished: AlignmentConfig, tmp_path: Path) -> None:
    half = replace(finished, output=str(tmp_path), learnt_share=0.5)
    run(half)
    began = load_file(Path(finished.encoder) / "model.safetensors")
    learnt, kept = (load_file(Path(each.output) / "model.safetensors") for each in (finished, half))
    for key in ("encoder.layers.0.attention.query.weight", "encoder.embed.norm.weight"):
        torch.testing.assert_close(kept[key], (began[key] + learnt[key]) / 2)
        assert not torch.equal(kept[key], learnt[key])
    earlier = replace(half, output=str(tmp_path / "round"), blend_with=finished.output)  # begins where ``began`` is
    run(earlier)
    blended = load_file(tmp_path / "round" / "model.safetensors")
    for key in ("encoder.layers.0.attention.query.weight", "adapter.project.weight"):
        torch.testing.assert_close(blended[key], learnt[key])  # half of itself and half of the same, learnt before
    with pytest.raises(ValueError, match="learnt_share: expected a share above 0, at most 1, got 0"):
        replace(finished, learnt_share=0)
    with pytest.raises(ValueError, match="blend_with is for a learnt_share below 1"):
        replace(finished, blend_with=finished.output)


def test_a_head_that_nobody_taught_is_not_handed_on(config: AlignmentConfig, tmp_path: Path) -> None:
    """Weights as they were initialised, trained on later at full weight, would disturb the ears."""
    unpacked = Path(shutil.copytree(config.encoder, tmp_path / "unpacked"))
    weights = {k: v for k, v in load_file(unpacked / "model.safetensors").items() if not k.startswith("ctc.")}
    save_file(weights, unpacked / "model.safetensors")
    untaught = replace(
        config, output=str(tmp_path / "out"), encoder=str(unpacked), ctc_weight=0.0,
        optim=replace(config.optim, steps=1),
    )  # fmt: skip
    run(untaught)
    assert {key.split(".")[0] for key in load_file(tmp_path / "out" / "model.safetensors")} == {
        "encoder", "adapter", "prompts"
    }  # fmt: skip
    taught = replace(untaught, output=str(tmp_path / "taught"), encoder=untaught.output, ctc_weight=0.3)
    run(taught)
    assert "ctc.weight" in load_file(tmp_path / "taught" / "model.safetensors")

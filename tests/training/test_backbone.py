import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from icebreaker.config import load_toml
from icebreaker.errors import DataError, TrainingError
from icebreaker.models.llm import LLM
from icebreaker.nn.weights import weights_sha256
from icebreaker.training import backbone
from icebreaker.training.backbone import BackboneConfig
from icebreaker.training.backbone_answers import Spoken, answer_accuracy
from icebreaker.training.conversations import Conversation, MixConfig, batches_from, read_conversations
from icebreaker.training.loop import OptimConfig, Run, fit, train

QUESTION, ANSWER = "What is the capital of France?", "The capital of France is Paris."


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [
        {
            "id": str(i),
            "system": "Your name is Nina." if i % 3 == 0 else None,
            "kind": "capital",
            "turns": [{"role": "user", "text": QUESTION}, {"role": "assistant", "text": ANSWER}] * (1 + i % 2),
        }
        for i in range(40)
    ]
    for split in ("train", "valid"):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return tmp_path


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def config_for(data: Path, output: Path, **optim: float) -> BackboneConfig:
    return BackboneConfig(
        optim=OptimConfig(**{"steps": 2, "lr": 1e-3, "warmup": 1, "save_every": 2, **optim}),  # type: ignore[arg-type]
        data=data, output=output, vocab_size=300, hidden_size=32, layers=1, heads=2, kv_heads=1, ffn=48,
        mix=MixConfig(batch_conversations=4), evaluate_conversations=4,
    )  # fmt: skip


def test_stage_leaves_a_folder_that_any_llm_user_can_load(data: Path, tmp_path: Path) -> None:
    config = config_for(data, tmp_path / "out")
    backbone.run(config)
    llm = LLM.load(config.output / "llm")
    trained = torch.load(config.output / "last.pt", weights_only=True)["modules"]["llm"]
    for name, value in llm.model.state_dict().items():
        assert torch.equal(value, trained[name].half().float()), name  # stored in half precision, used in float32
    assert llm.tokenizer.decode(llm.eos_ids) == "<|im_end|>"
    assert not (config.output / "llm-partial").exists()
    evaluation = json.loads((config.output / "metrics.jsonl").read_text().splitlines()[-1])["evaluation"]
    assert evaluation.keys() == {"accuracy", "accuracy/capital"}


def test_resumed_run_equals_uninterrupted(data: Path, tmp_path: Path) -> None:
    weights = []
    for name, stops in (("whole", [4]), ("resumed", [2, 4])):
        for steps in stops:
            config = config_for(data, tmp_path / name, steps=4)
            conversations = read_conversations(data / "train.jsonl")
            tokenizer = backbone.tokenizer_for((QUESTION, ANSWER).__iter__(), 300)
            model = backbone.build_model(config, tokenizer)
            run = Run({"llm": model}, config.optim)
            stream = batches_from(conversations, tokenizer, config.mix, 0)
            train(
                run,
                lambda start, stream=stream, steps=steps: islice(stream(start), steps - start),  # type: ignore[misc]
                lambda batch, model=model: backbone.text_loss(model, batch),  # type: ignore[misc]
                config.output,
            )
        weights.append(model.state_dict())
    assert run.step == 4
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_batch_depends_on_its_number_only(data: Path) -> None:
    config = config_for(data, data)
    conversations = read_conversations(data / "train.jsonl")
    tokenizer = backbone.tokenizer_for(iter([QUESTION, ANSWER]), 300)
    stream = batches_from(conversations, tokenizer, config.mix, 0)
    late, whole = next(iter(stream(21))), next(islice(stream(0), 21, None))
    assert all(torch.equal(a, b) for a, b in zip(late, whole, strict=True))
    seen = [" ".join(tokenizer.decode(row) for row in batch.ids) for batch in islice(stream(0), 16)]
    assert len(set(seen)) > 8


def test_weights_mark_answers_and_their_ends() -> None:
    tokenizer = backbone.tokenizer_for(iter([QUESTION, ANSWER]), 300)
    config = config_for(Path(), Path())
    conversation = Conversation("capital", "Be brief.", (("user", QUESTION), ("assistant", ANSWER)))
    batch = next(iter(batches_from([conversation], tokenizer, config.mix, 0)(0)))
    row, weights = batch.ids[0], batch.weights[0]
    learnt = tokenizer.decode(row[weights == 1])
    assert learnt == f"{ANSWER}<|im_end|>" * (len(learnt) // len(f"{ANSWER}<|im_end|>"))
    asked = tokenizer.decode(row[weights == torch.tensor(config.mix.user_weight)])
    assert asked.split("<|im_end|>")[0] in (QUESTION, "what is the capital of france")
    assert (weights[batch.mask[0] == 0] == 0).all()


def test_the_end_of_an_answer_that_was_cut_is_not_learnt() -> None:
    tokenizer = backbone.tokenizer_for(iter([QUESTION, ANSWER]), 300)
    mix = replace(config_for(Path(), Path()).mix, join_probability=0.0)
    turns = (("user", QUESTION), ("assistant", "The capital"), ("user", "Repeat that."), ("assistant", "I said so"))
    batch = next(iter(batches_from([Conversation("recall", None, turns)], tokenizer, mix, 0)(0)))
    learnt = {tokenizer.decode(row[weights == 1]) for row, weights in zip(batch.ids, batch.weights, strict=True)}
    assert learnt == {"The capitalI said so<|im_end|>"}


def test_pauses_are_zero_vectors(data: Path) -> None:
    """Whatever the padding token's own embedding is."""
    config = BackboneConfig(
        optim=OptimConfig(steps=1, lr=1e-3),
        data=data,
        output=data,
        hidden_size=32,
        layers=1,
        heads=2,
        kv_heads=1,
        ffn=32,
    )
    conversations = read_conversations(data / "train.jsonl")
    tokenizer = backbone.tokenizer_for((text for c in conversations for _, text in c.turns), 300)
    model = backbone.build_model(config, tokenizer)
    paced = MixConfig(batch_conversations=2, paced_probability=1.0)
    batch = next(batches_from(conversations, tokenizer, paced, 0)(0))
    pauses = (batch.ids == tokenizer.pad_token_id) & (batch.mask == 1)
    assert pauses.any()
    with torch.no_grad():
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())  # untied
        before = backbone.text_loss(model, batch)[0]
        model.get_input_embeddings().weight[tokenizer.pad_token_id] = 5.0
        torch.testing.assert_close(backbone.text_loss(model, batch)[0], before)
        model.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids("<|im_start|>")] = 5.0
        assert abs(float(backbone.text_loss(model, batch)[0] - before)) > 1e-4


def test_it_learns(data: Path, tmp_path: Path) -> None:
    config = config_for(data, tmp_path, steps=60, lr=1e-2)
    conversations = read_conversations(data / "train.jsonl")
    tokenizer = backbone.tokenizer_for(iter([QUESTION, ANSWER]), 300)
    model = backbone.build_model(config, tokenizer)
    batches = batches_from(conversations, tokenizer, config.mix, 0)(0)
    reports = list(fit(Run({"llm": model}, config.optim), batches, lambda batch: backbone.text_loss(model, batch)))
    assert reports[0].loss > 4
    assert reports[-1].parts["answer_loss"] < 0.5
    accuracy = answer_accuracy(model.eval(), tokenizer, conversations[:6])
    assert accuracy["accuracy"] == 1.0


def test_tokenizer_survives_the_folder(tmp_path: Path) -> None:
    tokenizer = backbone.tokenizer_for(iter([QUESTION, ANSWER] * 3), 300)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    loaded = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    for text in (QUESTION, "it isn't 1234 plus 5", "<|im_start|>user\ncafé  x<|im_end|>\n"):
        ids = tokenizer.encode(text)
        assert loaded.encode(text) == ids
        assert loaded.decode(ids) == text
    assert len(tokenizer.encode("1234")) == 4


def test_bad_data(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    with pytest.raises(DataError, match="write the text data first"):
        read_conversations(path)
    path.write_text("\n")
    with pytest.raises(DataError, match="holds no conversation"):
        read_conversations(path)
    for line in ("{", "{}", '{"turns": [{"role": "assistant", "text": "x"}]}', '{"turns": []}'):
        path.write_text(line)
        with pytest.raises(DataError, match=r"train\.jsonl:1: expected"):
            read_conversations(path)


def test_mini_configuration_is_valid() -> None:
    text, paced = (
        load_toml(Path(__file__).parents[2] / "configs" / "mini" / f"{name}.toml", BackboneConfig)
        for name in ("backbone_text", "backbone")
    )
    assert (text.stage, text.vocab_size, text.hidden_size, text.layers) == ("backbone", 2048, 256, 4)
    assert paced.start_from == text.output / "llm"
    assert paced.mix.paced_probability > 0


def test_paced_turns_are_written_as_the_ears_write_them(data: Path) -> None:
    conversations = read_conversations(data / "train.jsonl")
    tokenizer = backbone.tokenizer_for((text for c in conversations for _, text in c.turns), 300)
    mix = MixConfig(batch_conversations=2, paced_probability=1.0, leading_space=True)
    batch = next(batches_from(conversations, tokenizer, mix, 0)(0))
    for row in batch.ids:
        asked = tokenizer.decode(row[row != tokenizer.pad_token_id]).split("<|im_start|>user\n")[1]
        words = asked.split("<|im_end|>")[0]
        assert words.startswith(" ")
        assert words.split()[0] == "what"
        assert words == words.lower()
        assert "?" not in words
    wrong = MixConfig(batch_conversations=8, paced_probability=1.0, leading_space=True, mishear=0.6)
    batch = next(batches_from(conversations, tokenizer, wrong, 0)(0))
    heard = [tokenizer.decode(row[row != tokenizer.pad_token_id]) for row in batch.ids]
    assert sum(" what is the capital of france<" in text for text in heard) < len(heard)


def test_a_share_of_one_or_more_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mishear: expected a share from 0 to below 1, got 1\.5"):
        MixConfig(mishear=1.5)


def test_embeddings_of_an_earlier_backbone_stay_and_answers_to_speech_are_measured(data: Path, tmp_path: Path) -> None:
    first = config_for(data, tmp_path / "first")
    backbone.run(first)
    mix = MixConfig(batch_conversations=4, paced_probability=0.5, leading_space=True, mishear=0.2)
    second = replace(config_for(data, tmp_path / "second"), start_from=first.output / "llm", mix=mix)
    backbone.run(second)
    models = [LLM.load(config.output / "llm") for config in (first, second)]
    assert torch.equal(models[0].embedding.weight, models[1].embedding.weight)
    layers = [llm.model.state_dict()["model.layers.0.mlp.up_proj.weight"] for llm in models]
    assert not torch.equal(layers[0], layers[1])
    shas = [json.loads((c.output / "config.json").read_text())["embeddings_sha256"] for c in (first, second)]
    assert weights_sha256(models[0].embedding) == weights_sha256(models[1].embedding) == shas[1]
    evaluation = json.loads((second.output / "metrics.jsonl").read_text().splitlines()[-1])["evaluation"]
    assert evaluation.keys() == {"accuracy", "accuracy/capital", "accuracy_paced", "accuracy_misheard"}


def test_what_a_model_knows_by_eye_is_measured_by_ear(data: Path, tmp_path: Path) -> None:
    config = config_for(data, tmp_path, steps=60, lr=1e-2)
    conversations = read_conversations(data / "train.jsonl")
    tokenizer = backbone.tokenizer_for(iter([QUESTION, ANSWER]), 300)
    model = backbone.build_model(config, tokenizer)
    mix = MixConfig(batch_conversations=4, paced_probability=1.0, leading_space=True)
    list(fit(Run({"llm": model}, config.optim), batches_from(conversations, tokenizer, mix, 0)(0),
             lambda batch: backbone.text_loss(model, batch)))  # fmt: skip
    spoken = Spoken(confusions={}, mishear=0.0)
    assert answer_accuracy(model.eval(), tokenizer, conversations[:6], spoken=spoken)["accuracy"] == 1.0


@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_leaves_the_last_folder_whole(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool
) -> None:
    tokenizer = backbone.tokenizer_for(iter([QUESTION, ANSWER]), 300)
    model = backbone.build_model(config_for(data, tmp_path), tokenizer)
    if existing:
        backbone.save_folder(model, tokenizer, tmp_path / "llm")
    before = {path.name: path.read_bytes() for path in (tmp_path / "llm").glob("*")}

    def full(self: object, folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PreTrainedTokenizerFast, "save_pretrained", full)
    with pytest.raises(TrainingError, match=r"llm: could not save the language model: .*No space left.* run the stage"):
        backbone.save_folder(model, tokenizer, tmp_path / "llm")
    assert {path.name: path.read_bytes() for path in (tmp_path / "llm").glob("*")} == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("llm")] == ["llm"] * existing


def test_a_full_disk_at_the_last_moment_leaves_the_last_config(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(data, tmp_path / "out")
    backbone.run(config)
    before = (config.output / "config.json").read_bytes()
    write = Path.write_text

    def full(self: Path, text: str) -> int:
        if "config.json" in self.name:
            write(self, text[:10])
            raise OSError(28, "No space left on device")
        return write(self, text)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(TrainingError, match=r"config\.json: could not save"):
        backbone.run(replace(config, optim=replace(config.optim, steps=3)))
    assert (config.output / "config.json").read_bytes() == before
    assert not list(config.output.glob("*.partial"))


def test_configurations_after_the_first_keep_its_embeddings_and_train_for_ears() -> None:
    folder = Path(__file__).parents[2] / "configs" / "mini"
    first, heard, more, daily = (
        load_toml(folder / f"{name}.toml", BackboneConfig)
        for name in ("backbone", "backbone_heard", "backbone_more", "backbone_daily")
    )
    assert heard.start_from == first.output / "llm"
    assert more.start_from == heard.output / "llm"
    assert daily.start_from == more.output / "llm"
    assert daily.mix == replace(more.mix, heard=None)
    assert more.mix.heard == Path("runs/mini/heard_text/heard.jsonl")
    for config in (heard, more, daily):
        assert config.mix.leading_space
        assert 0 < config.mix.mishear < 0.5

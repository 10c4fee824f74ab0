import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from speech import write_questions

from icebreaker.config import load_toml
from icebreaker.models.encoder import EncoderConfig
from icebreaker.training import speech_batches
from icebreaker.training.encoder_ctc import ChunkConfig, EncoderCTCConfig, draw_chunks, run
from icebreaker.training.loop import OptimConfig
from icebreaker.training.speech_batches import SpeechConfig, SpeechSource

MINI = Path(__file__).parents[2] / "configs" / "mini"
TOY = EncoderConfig(
    subsampling_dim=8, width=16, heads=2, feed_forward_dim=32, layers=2, dropout=0.1, positional_dropout=0.0
)


def questions_and_encoder(folder: Path) -> SpeechConfig:
    """Spoken questions in ``folder/questions``, and an encoder in ``folder/encoder`` that took one step on them."""
    questions, features = write_questions(folder / "questions")
    data = SpeechConfig(questions=questions, question_features=features, frames_per_batch=900)
    one = OptimConfig(steps=1, lr=1e-3)
    run(EncoderCTCConfig(output=str(folder / "encoder"), encoder=TOY, data=data, optim=one, evaluate_every=0))
    return data


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return write_questions(tmp_path_factory.mktemp("questions"))


@pytest.fixture
def config(questions: tuple[str, str], tmp_path: Path) -> EncoderCTCConfig:
    return EncoderCTCConfig(
        output=str(tmp_path / "out"),
        encoder=TOY,
        data=SpeechConfig(questions=questions[0], question_features=questions[1], frames_per_batch=600),
        optim=OptimConfig(steps=6, lr=3e-3, warmup=2, log_every=1, save_every=3),
        evaluate_every=3,
    )


def losses(folder: str) -> dict[int, float]:
    rows = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows if "loss" in row}


def test_run_writes_weights_and_error_rates(config: EncoderCTCConfig) -> None:
    run(config)
    weights = load_file(Path(config.output) / "model.safetensors")
    assert {key.split(".")[0] for key in weights} == {"encoder", "ctc"}
    assert weights["ctc.weight"].shape == (29, TOY.width)
    assert weights["encoder.istd"].min() > 0
    assert not torch.equal(weights["encoder.mean"], torch.zeros(80))
    stored = json.loads((Path(config.output) / "config.json").read_text())
    assert stored["encoder"]["width"] == TOY.width
    for figure in ("voices_cer", "voices_full_cer"):
        assert 0 < stored["evaluation"][figure] <= 1.5


def test_resumed_run_takes_the_same_steps(config: EncoderCTCConfig, tmp_path: Path) -> None:
    run(config)
    whole = losses(config.output)
    broken = replace(config, output=str(tmp_path / "broken"))

    def stop(report: object) -> None:
        if getattr(report, "step", 0) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(broken, stop)
    run(broken)
    assert losses(broken.output) == whole
    first, second = (load_file(Path(c.output) / "model.safetensors") for c in (config, broken))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_it_learns_to_spell(config: EncoderCTCConfig) -> None:
    run(replace(config, optim=replace(config.optim, steps=60, lr=1e-2, warmup=10, save_every=60), evaluate_every=0))
    taken = losses(config.output)
    assert taken[60] < 0.6 * taken[1]


def test_drawn_chunks_follow_their_shares() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_chunks(ChunkConfig(deployed=0.5, random=0.3), rng) for _ in range(2000)]
    assert sum(d == (0, -1) for d in drawn) / 2000 == pytest.approx(0.2, abs=0.03)
    assert sum(d == (4, 16) for d in drawn) / 2000 == pytest.approx(0.5, abs=0.04)
    assert all(0 <= size <= 25 for size, _ in drawn)


def test_batches_are_a_function_of_their_index(config: EncoderCTCConfig) -> None:
    source = SpeechSource(config.data)
    stream = source.batches(0)
    for _ in range(3):
        next(stream)
    again = next(SpeechSource(config.data).batches(3))
    fourth = next(stream)
    assert torch.equal(fourth.fbank, again.fbank)
    assert [item.id for item in fourth.items] == [item.id for item in again.items]
    assert {item.split for item in fourth.items} == {"train"}
    assert (fourth.lengths % 4 == 0).all()


def test_natural_voices_have_their_share_of_the_batches(config: EncoderCTCConfig, tmp_path: Path) -> None:
    natural = write_questions(tmp_path / "natural")
    data = replace(
        config.data, natural=natural[0], natural_features=natural[1], natural_weight=0.75, frames_per_batch=200
    )
    source = SpeechSource(data)
    items = [item for index in range(300) for item in source.batch(index).items]
    assert sum(item.audio.is_relative_to(tmp_path) for item in items) / len(items) == pytest.approx(0.75, abs=0.1)
    assert source.natural is not None
    (held_out,) = source.evaluation(("valid",), 8, store=source.natural)
    assert all(item.audio.is_relative_to(tmp_path) and item.split == "valid" for item in held_out.items)
    run(replace(config, data=data, optim=replace(config.optim, steps=1)))
    assert "natural_cer" in json.loads((Path(config.output) / "config.json").read_text())["evaluation"]


def test_revoiced_recordings_have_their_share_and_rare_words_are_heard_more(
    config: EncoderCTCConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revoiced = write_questions(tmp_path / "revoiced")
    data = replace(
        config.data, revoiced=revoiced[0], revoiced_features=revoiced[1], revoiced_weight=0.25, words=revoiced[0],
        word_features=revoiced[1], words_weight=0.1,
    )  # fmt: skip
    both = SpeechSource(data)
    stores = np.array([index for index, _ in both.pool])
    assert both.words is not None
    assert both.weights[stores == both.words].sum() == pytest.approx(0.1)
    assert SpeechSource(data, with_answer=True).words is None
    data = replace(data, words=None)
    source = SpeechSource(data)
    new = np.array([source.stores[index].items[row.item].audio.is_relative_to(tmp_path) for index, row in source.pool])
    assert new.any()
    assert source.weights[new].sum() == pytest.approx(0.25)
    monkeypatch.setattr(speech_batches, "SELDOM", 1)
    levelled = SpeechSource(replace(data, rare_words=0.5))
    assert levelled.weights[new].sum() == pytest.approx(0.25)
    texts = [source.stores[index].items[row.item].text for index, row in source.pool]
    uses = Counter(word for text in texts for word in set(text.split()))
    rarest = np.array([min(uses[word] for word in text.split()) for text in texts])
    for kind in (new, ~new):
        assert np.allclose(source.weights[kind], source.weights[kind][0])
        as_drawn = levelled.weights[kind] * rarest[kind] ** 0.5
        assert np.allclose(as_drawn, as_drawn[0])
    assert len(set(rarest)) > 1


def test_mini_configs_fit() -> None:
    """Six rounds, each going on from the last."""
    earlier = None
    for name in (
        "encoder_ctc", "encoder_ctc_domain", "encoder_ctc_voices", "encoder_ctc_wide", "encoder_ctc_natural",
        "encoder_ctc_timbres",
    ):  # fmt: skip
        config = load_toml(MINI / f"{name}.toml", EncoderCTCConfig)
        assert config.encoder.chunk_size == config.chunks.chunk_size
        assert config.encoder.left_chunks == config.chunks.left_chunks
        assert config.start_from == (earlier.output if earlier else None)
        assert earlier is None or config.encoder == earlier.encoder
        earlier = config

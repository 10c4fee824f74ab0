"""Scenes from toy questions and toy asides: what is in them, and when a decision is due."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from speech import RATE, spoken, write_questions

from icebreaker.data.features import build_features
from icebreaker.data.manifest import Item, read_manifest, write_manifest
from icebreaker.data.recording import save_flac
from icebreaker.errors import DataError
from icebreaker.training.feature_augment import FeatureAugmentConfig
from icebreaker.training.scene_sounds import Sounds, coughs, quietest
from icebreaker.training.scenes import ANSWER, ASKING, CHUNK_FRAMES, DISMISS, KINDS, LISTEN, Scene, SceneConfig, scenes
from icebreaker.training.speech_batches import SpeechBatch, SpeechConfig, SpeechSource

PLAIN = SceneConfig(tail_frames=(96, 96))


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> SpeechBatch:
    manifest, features = write_questions(tmp_path_factory.mktemp("questions"))
    made = SpeechSource(SpeechConfig(questions=manifest, question_features=features, frames_per_batch=900)).batch(0)
    three = [replace(item, text="what is this") for item in made.items]
    return replace(made, items=three)


@pytest.fixture(scope="module")
def asides(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder, items = tmp_path_factory.mktemp("asides"), []
    for kind in ("filler", "backchannel", "other", "echo"):
        waveform = spoken("ab", np.random.default_rng(1))
        save_flac(folder / f"{kind}.flac", waveform, RATE)
        items.append(
            Item(id=f"{kind}-0", audio=folder / f"{kind}.flac", seconds=len(waveform) / RATE, text="ab", split="train")
        )
    write_manifest(folder / "manifest.jsonl", items)
    build_features(folder / "manifest.jsonl", folder / "features")
    return str(folder / "manifest.jsonl"), str(folder / "features")


@pytest.fixture(scope="module")
def sounds(asides: tuple[str, str]) -> Sounds:
    return Sounds(*asides, ("train",), FeatureAugmentConfig())


def after_end(scene: Scene) -> list[int]:
    """Labels of the chunks that end ``patience_frames`` or more after the speech."""
    first = -(-(scene.speech_end + PLAIN.patience_frames) // CHUNK_FRAMES) - 1
    return scene.labels[first:].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_decided_as_it_should_be(batch: SpeechBatch, sounds: Sounds, kind: str) -> None:
    for scene in scenes(batch, PLAIN, sounds, kind):
        assert scene.kind == kind
        assert scene.fbank.shape == (len(scene.labels) * CHUNK_FRAMES, 80)
        assert scene.fbank.isfinite().all()
        if kind == "cut":
            assert set(scene.labels.tolist()) == {LISTEN}
            continue
        assert set(after_end(scene)) == {ANSWER if kind in ASKING else DISMISS}
        assert set(scene.labels[: scene.speech_end // CHUNK_FRAMES].tolist()) == {LISTEN}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_batch_gives_the_same_scenes(batch: SpeechBatch, sounds: Sounds, kind: str) -> None:
    for one, other in zip(scenes(batch, PLAIN, sounds, kind), scenes(batch, PLAIN, sounds, kind), strict=True):
        assert torch.equal(one.fbank, other.fbank)
        assert torch.equal(one.labels, other.labels)


@pytest.mark.parametrize("kind", ["pause", "hesitation"])
def test_a_pause_makes_the_question_longer_by_what_it_says(batch: SpeechBatch, sounds: Sounds, kind: str) -> None:
    config = replace(PLAIN, pause_frames=(40, 40))
    um = sounds.draw("filler", np.random.default_rng(0))
    for scene, end in zip(scenes(batch, config, sounds, kind), batch.speech_ends, strict=True):
        added = scene.speech_end - end
        if kind == "pause":
            assert added == 40
        else:
            assert 40 + 2 + um.end - um.start <= added < 40 + 12 + um.end - um.start


def test_a_question_too_short_to_cut_stays_whole(batch: SpeechBatch) -> None:
    short = replace(batch, items=[replace(item, text="how many please") for item in batch.items])
    assert {scene.kind for scene in scenes(short, PLAIN, None, "pause")} == {"question"}


def test_shares_are_drawn_as_they_say() -> None:
    rng, config = np.random.default_rng(0), SceneConfig(pause=0.5, cut=0.25, trailing=0, cough=0, babble=0, noise=0)
    drawn = [replace(config, backwards=0).draw(rng) for _ in range(2000)]
    assert [round(drawn.count(kind) / 2000, 1) for kind in ("pause", "cut", "question")] == [0.5, 0.2, 0.3] or (
        abs(drawn.count("cut") - 500) < 60
    )
    assert set(drawn) == {"pause", "cut", "question"}


def test_shares_and_recordings_must_fit() -> None:
    with pytest.raises(ValueError, match=r"shares of scenes add up to 1.4"):
        SceneConfig(pause=1.0)
    with pytest.raises(ValueError, match="echo needs asides and aside_features"):
        SceneConfig(echo=0.1)


def test_a_kind_without_recordings_is_named(asides: tuple[str, str], tmp_path: Path) -> None:
    left = [item for item in read_manifest(Path(asides[0])) if not item.id.startswith("echo")]
    write_manifest(tmp_path / "manifest.jsonl", left)
    with pytest.raises(DataError, match="no echo of split train; run `icebreaker data asides`"):
        Sounds(str(tmp_path / "manifest.jsonl"), asides[1], ("train",), FeatureAugmentConfig())


def test_sentences_are_cut_where_it_is_quiet() -> None:
    fbank = np.full((60, 80), 10.0, np.float32)
    fbank[33:36] = -5.0
    assert quietest(fbank, 20, 50) == 34


def test_coughs_begin_at_once_and_fade() -> None:
    for seed in range(5):
        cough = coughs(np.random.default_rng(seed), 12.0)
        assert cough.shape[1] == 80
        assert cough[:6].max() > 6.0
        assert cough[2:5].mean() > cough[7:10].mean()

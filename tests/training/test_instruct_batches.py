from dataclasses import replace
from pathlib import Path

import omni
import pytest
import torch

from icebreaker.errors import DataError
from icebreaker.training.hearing import ChunkedEars, load_encoder
from icebreaker.training.instruct_batches import Hearing, QuestionConfig, QuestionSource


@pytest.fixture
def config(tmp_path: Path) -> QuestionConfig:
    omni.write(tmp_path)
    return QuestionConfig(manifest=tmp_path / "questions" / "manifest.jsonl", rows=4)


def test_batches_can_begin_anywhere(config: QuestionConfig) -> None:
    source = QuestionSource(config, "train")
    early, late = source.batches(0, 7), source.batches(3, 7)
    for _ in range(3):
        next(early)
    assert next(early) == next(late)


def test_rows_are_neighbours_in_length_and_everything_comes(config: QuestionConfig) -> None:
    source = QuestionSource(replace(config, rows=3), "train")
    batches = [batch for batch, _ in zip(source.batches(0, 1), range(60), strict=False)]
    assert all(len(batch) == 3 for batch in batches)
    assert all([i.seconds for i in batch] == sorted(i.seconds for i in batch) for batch in batches)
    assert {item.id for batch in batches for item in batch} == {item.id for item in source.items}


def test_fixed_questions_are_the_same_each_time(config: QuestionConfig) -> None:
    source = QuestionSource(config, "train")
    assert list(source.fixed(5)) == list(source.fixed(5))
    assert sum(len(batch) for batch in source.fixed(5)) == 5
    assert sum(len(batch) for batch in source.fixed(500)) == len(source.items)


def test_what_was_heard_can_be_kept(config: QuestionConfig, tmp_path: Path) -> None:
    ears = ChunkedEars(load_encoder(tmp_path / "encoder"))
    items = QuestionSource(config, "train").items[:3]
    fresh, keeping = Hearing(ears, keep=False)(items), Hearing(ears, keep=True)
    once, again = keeping(items), keeping(items)
    assert once.lengths.tolist() == fresh.lengths.tolist()
    assert torch.equal(once.frames, again.frames)
    for row, (kept, length) in enumerate(zip(once.frames, fresh.lengths.tolist(), strict=True)):
        torch.testing.assert_close(kept[:length], fresh.frames[row, :length], atol=5e-3, rtol=5e-3)


def test_questions_that_are_left_out(config: QuestionConfig) -> None:
    items = QuestionSource(config, "train").items
    shorter = QuestionSource(replace(config, max_seconds=0.7), "train").items
    assert 0 < len(shorter) < len(items)
    assert [item.id for item in QuestionSource(config, "train", frozenset([items[2].id])).items] == [items[2].id]
    with pytest.raises(DataError, match=r"no answered question of split 'test' within 30.0 s"):
        QuestionSource(config, "test")

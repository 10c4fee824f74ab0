import gzip
import hashlib
import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from icebreaker.data import recording, spoken
from icebreaker.data.build import DataConfig, build
from icebreaker.data.features import FeatureStore
from icebreaker.data.manifest import read_manifest
from icebreaker.data.recording import Script
from icebreaker.data.sentences import REQUEST_FILES, asked_and_others, levelled, word_lists
from icebreaker.data.synthesis import Utterance, Voice
from icebreaker.errors import DataError
from tests.data.tiny_countries import write_countries

VOICES = tuple(Voice(name=f"espeak-{name}", engine="espeak", engine_voice=name) for name in ("en-us", "en-gb"))
UNSEEN = (Voice(name="espeak-klatt4", engine="espeak", engine_voice="en-us+klatt4"),)
NATURAL = tuple(Voice(name=f"kokoro-{name}", engine="kokoro", engine_voice=name) for name in ("af_sky", "bm_fable"))
PROMISED = {
    "questions": (20, "975deaf6f0fdbe56"), "natural": (28, "ef69a2f57a884fb1"),
    "sentences": (29, "b741f489e7b3091f"), "answers": (29, "6c0b7fd7b513b645"),
}  # fmt: skip
CONFIG = DataConfig(conversations=30, held_out_conversations=6, questions=8, held_out_questions=3)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A data folder in miniature."""
    text = tmp_path / "source" / "text"
    text.mkdir(parents=True)
    for name in REQUEST_FILES:
        rows = [{"text": f"please play {word} music {end}"} for word in ("loud", "soft", "new") for end in "abcdefgh"]
        rows += [{"text": "wake me at 7 tomorrow"}]
        _write(text / f"{name}.jsonl.gz", rows)
    chat = [{"conversation": [f"User 1: I like the color {word}.", "User 2: Me too."]} for word in ("red", "blue")]
    _write(text / "synthetic-persona-chat.jsonl.gz", chat)
    _write(text / "simple-questions.jsonl.gz", [{"question": f"where was {who} born"} for who in ("ada", "ida", "udo")])
    return write_countries(tmp_path / "source")


@pytest.fixture
def out(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with text, and quick voices."""
    monkeypatch.setattr(spoken, "TRAIN_VOICES", VOICES)
    monkeypatch.setattr(spoken, "BREADTH_VOICES", VOICES)
    monkeypatch.setattr(spoken, "MORE_VOICES", VOICES)
    monkeypatch.setattr(spoken, "HELD_OUT_VOICES", UNSEEN)
    monkeypatch.setattr(spoken, "ASSISTANT", VOICES[0])
    build("text", CONFIG, source=source, out=tmp_path / "out", progress=ignore)
    return tmp_path / "out"


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def ignore(done: int, total: int) -> None:
    pass


def test_questions_are_spoken_and_split_by_voice_and_phrasing(source: Path, out: Path) -> None:
    reports: list[tuple[int, int]] = []
    count = build("questions", CONFIG, source=source, out=out, progress=lambda *report: reports.append(report))
    items = read_manifest(out / "questions" / "manifest.jsonl")
    assert len(items) == count == 8 + 3 + 3
    assert reports[-1] == (14, 14)
    assert [sum(item.split == split for item in items) for split in ("train", "valid", "test")] == [8, 3, 3]
    assert {item.voice for item in items if item.split == "train"} <= {voice.name for voice in VOICES}
    assert {item.voice for item in items if item.split != "train"} == {"espeak-klatt4"}
    assert sum(item.answer is None for item in items if item.split == "train") == 3  # 35 % of 8
    assert not any(character.isdigit() or character.isupper() for item in items for character in item.text)
    for item in items:
        header = soundfile.info(item.audio)
        assert (header.samplerate, header.channels, header.subtype) == (16_000, 1, "PCM_16")
        assert header.duration == pytest.approx(item.seconds, abs=1e-3)
        assert (item.answer is None) == (item.conversation is None)


def test_more_questions_leave_the_others_as_they_were(source: Path, out: Path) -> None:
    manifest = out / "questions" / "manifest.jsonl"
    build("questions", CONFIG, source=source, out=out, progress=ignore)
    before = read_manifest(manifest)
    build("questions", replace(CONFIG, more_questions=5), source=source, out=out, progress=ignore)
    after = {item.id: item for item in read_manifest(manifest)}
    assert all(after.pop(item.id) == item for item in before)
    assert len(after) == 5
    assert all(item.split == "train" and item.answer for item in after.values())
    assert len({item.text for item in after.values()}) == 5


def test_words_that_are_seldom_said_are_said_more(source: Path, out: Path) -> None:
    """In more recordings, behind the others."""
    manifest = out / "questions" / "manifest.jsonl"
    build("questions", CONFIG, source=source, out=out, progress=ignore)
    before = read_manifest(manifest)
    build("questions", replace(CONFIG, level_questions=40), source=source, out=out, progress=ignore)
    after = read_manifest(manifest)
    assert after[: len(before)] == before
    assert len(after) == len(before) + 40
    assert all(item.split == "train" and item.answer for item in after[len(before) :])


def test_the_word_that_was_said_least_is_said_next(tmp_path: Path) -> None:
    questions = ["What is the capital of Peru?", "What is the capital of Chile?", "Are you happy?"]
    text = tmp_path / "train.jsonl"
    text.write_text("".join(json.dumps({"id": q, "system": None, "turns": [{"text": q}, {"text": "Yes."}]}) + "\n"
                            for q in questions))  # fmt: skip
    said = ["what is the capital of peru"] * 10
    drawn = Counter(asked.text for asked in levelled(text, said, 8, random.Random(0)))
    assert drawn == {"What is the capital of Chile?": 4, "Are you happy?": 4}
    drawn = Counter(asked.text for asked in levelled(text, said, 50, random.Random(0)))
    assert (
        drawn["Are you happy?"] == drawn["What is the capital of Chile?"] == drawn["What is the capital of Peru?"] + 10
    )
    assert levelled(text, said, 0, random.Random(0)) == []


def test_lists_have_every_word_as_often(source: Path, out: Path, tmp_path: Path) -> None:
    text = tmp_path / "questions.jsonl"
    questions = ["What is the capital of Peru?", "What is the capital of Chile?", "Are you happy?"]
    text.write_text("".join(json.dumps({"id": q, "system": None, "turns": [{"text": q}, {"text": "Yes."}]}) + "\n"
                            for q in questions))  # fmt: skip
    lists = word_lists(text, 500, random.Random(0))
    uses = Counter(word for listed in lists for word in listed.replace(",", "").split())
    assert uses.keys() == {"what", "is", "the", "capital", "of", "peru", "chile", "are", "you", "happy"}
    assert max(uses.values()) - min(uses.values()) <= 1
    assert {len(listed.split()) for listed in lists} == {3, 4, 5, 6}
    assert 0.4 < sum("," in listed for listed in lists) / 500 < 0.6
    assert build("words", replace(CONFIG, words=6), source=source, out=out, progress=ignore) == 6
    items = read_manifest(out / "words" / "manifest.jsonl")
    assert all(item.split == "train" and item.answer is None and "," not in item.text for item in items)


def test_sentences_come_from_every_source_and_no_text_is_in_two_splits(source: Path, tmp_path: Path, out: Path) -> None:
    config = DataConfig(sentences=1000)
    count = build("sentences", config, source=source, out=tmp_path, progress=ignore)
    items = read_manifest(tmp_path / "sentences" / "manifest.jsonl")
    assert len(items) == count == 24 + 3 + 2  # distinct requests, simple questions, chat sentences
    assert {"please play new music h", "where was ida born", "i like the color red"} <= {item.text for item in items}
    assert {item.voice for item in items if item.split == "train"} == {voice.name for voice in VOICES}
    assert {item.voice for item in items if item.split != "train"} <= {"espeak-klatt4"}
    assert all(item.answer is None for item in items)
    reports: list[tuple[int, int]] = []
    stored = build("features", config, source=source, out=tmp_path, progress=lambda *report: reports.append(report))
    assert stored == len(FeatureStore(tmp_path / "sentences" / "manifest.jsonl", tmp_path / "features/sentences").rows)
    assert reports[-1] == (count, count)


def test_a_stopped_build_goes_on_where_it_was(source: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build("questions", CONFIG, source=source, out=out, progress=ignore)
    manifest = out / "questions" / "manifest.jsonl"
    before, items = manifest.read_bytes(), read_manifest(manifest)
    kept = {item.audio: item.audio.stat().st_mtime_ns for item in items[1:]}
    items[0].audio.unlink()
    made: list[str] = []
    original = recording.synthesise

    def count(voice: Voice, utterances: list[Utterance], sample_rate: int) -> list[np.ndarray]:
        made.extend(utterance.text for utterance in utterances)
        return original(voice, utterances, sample_rate)

    monkeypatch.setattr(recording, "synthesise", count)
    build("questions", CONFIG, source=source, out=out, progress=ignore)
    assert len(made) == 1
    assert manifest.read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_answers_are_spoken_as_written_and_rare_words_are_trained_on(source: Path, out: Path) -> None:
    build("answers", CONFIG, source=source, out=out, progress=ignore)
    items = read_manifest(out / "answers" / "manifest.jsonl")
    texts = {item.text for item in items}
    for split in ("train", "valid", "test"):
        for line in (out / "text" / f"{split}.jsonl").read_text().splitlines():
            assert {turn["text"] for turn in json.loads(line)["turns"][1::2]} <= texts
    assert {"I like the color red.", "I like the color blue."} <= texts
    trained = {word for item in items if item.split == "train" for word in item.text.lower().split()}
    held_out = [item for item in items if item.split != "train" and not item.text.startswith("I like")]
    assert all(word in trained for item in held_out for word in item.text.lower().split())
    assert {soundfile.info(item.audio).samplerate for item in items} == {24_000}
    few = DataConfig(answers=3, other_answers_share=0.0)
    (out / "few").mkdir()
    (out / "few" / "text").symlink_to(out / "text")
    assert build("answers", few, source=source, out=out / "few", progress=ignore) == 3


def test_human_speech_is_copied_and_split_by_speaker(tmp_path: Path) -> None:
    folder = tmp_path / "source" / "speechocean762-train"
    (folder / "audio").mkdir(parents=True)
    rows = ["file\tspeaker\tgender\tage\taccuracy_0_10\tseconds\ttext"]
    for speaker in range(12):
        for take in range(2):
            name = f"{speaker:04d}{take}.wav"
            soundfile.write(folder / "audio" / name, np.zeros(8000 + take, np.float32), 8000)
            rows.append(f"{name}\t{speaker:04d}\tm\t6\t-1\t1.0\tWE call it {'bear' if take else '2 bears'}")
    (folder / "utterances.tsv").write_text("\n".join(rows) + "\n")
    assert build("human", CONFIG, source=tmp_path / "source", out=tmp_path / "out", progress=ignore) == 24
    items = read_manifest(tmp_path / "out" / "human" / "manifest.jsonl")
    assert {item.text for item in items} == {"we call it bear", "we call it two bears"}
    splits: dict[str, set[str]] = {}
    for item in items:
        splits.setdefault(item.voice, set()).add(item.split)
        assert soundfile.info(item.audio).samplerate == 16_000
        assert item.answer is None
    assert all(len(found) == 1 for found in splits.values())
    assert set().union(*splits.values()) >= {"train"}


def test_what_is_missing_is_named(tmp_path: Path, source: Path, out: Path) -> None:
    with pytest.raises(DataError, match="no conversations to speak; run `icebreaker data text`"):
        build("answers", CONFIG, source=source, out=tmp_path / "empty", progress=ignore)
    with pytest.raises(DataError, match=r"utterances.tsv: no such file; --source"):
        build("human", CONFIG, source=source, out=out, progress=ignore)
    (source / "text" / "snips-queries.jsonl.gz").unlink()
    with pytest.raises(DataError, match=r"snips-queries.jsonl.gz: cannot read"):
        build("questions", CONFIG, source=source, out=out, progress=ignore)
    with pytest.raises(ValueError, match=r"expected one of text, questions, natural, .*, features, got 'songs'"):
        build("songs", CONFIG, source=source, out=out, progress=ignore)  # type: ignore[arg-type]


def test_a_seed_is_a_promise(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recordings are found again by their ids, in whatever way this code is written tomorrow."""
    for name, voices in (("TRAIN", VOICES), ("BREADTH", VOICES), ("HELD_OUT", UNSEEN), ("NATURAL", NATURAL)):
        monkeypatch.setattr(spoken, f"{name}_VOICES", voices)
    monkeypatch.setattr(spoken, "HELD_OUT_NATURAL_VOICES", UNSEEN)
    made: list[Script] = []
    monkeypatch.setattr(spoken, "record", lambda scripts, *rest: made.extend(scripts) or len(scripts))
    text = tmp_path / "out" / "text"
    text.mkdir(parents=True)
    for split in ("train", "valid", "test"):
        talks = [
            {
                "id": f"{split}{n}", "system": "Be kind." if n == 3 else None,
                "turns": [{"text": f"What is {split} {n % 7}?"}, {"text": f"The {n} of {split} is green."}],
            }
            for n in range(9)
        ]  # fmt: skip
        (text / f"{split}.jsonl").write_text("".join(json.dumps(talk) + "\n" for talk in talks))
    config = DataConfig(seed=3, questions=12, held_out_questions=4, natural=20, held_out_natural=4, sentences=30)
    for part, expected in PROMISED.items():
        made.clear()
        assert build(part, config, source=source, out=tmp_path / "out", progress=ignore) == len(made)  # type: ignore[arg-type]
        rows = [(each.id, each.transcript, each.answer, each.conversation, each.voice.engine_voice) for each in made]
        assert (len(rows), hashlib.sha256(repr(rows).encode()).hexdigest()[:16]) == expected, part


def test_shares_are_checked() -> None:
    with pytest.raises(ValueError, match="other_answers_share: expected a share"):
        DataConfig(other_answers_share=1.0)


def test_an_answer_that_the_user_interrupted_is_not_the_answer(tmp_path: Path) -> None:
    rows = [
        ("Who?", "Ada Love"), ("Who?", "Ada Lovelace."), ("When?", "In eighteen"), ("Where?", "London."),
    ]  # fmt: skip
    text = tmp_path / "train.jsonl"
    text.write_text("".join(json.dumps({"id": str(i), "system": None, "turns": [{"text": q}, {"text": a}]}) + "\n"
                            for i, (q, a) in enumerate(rows)))  # fmt: skip
    found = {each.text: each.answer for each in asked_and_others(text, (), 3, 0.0, random.Random(0))}
    assert found == {"Who?": "Ada Lovelace.", "When?": None, "Where?": "London."}

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from icebreaker.audio.pcm import load_audio
from icebreaker.data.manifest import Item
from icebreaker.errors import DataError
from icebreaker.evaluation.duplex.bench_folder import import_bench
from icebreaker.evaluation.duplex.build import BuildConfig, build_scenes
from icebreaker.evaluation.duplex.metrics import Word
from icebreaker.evaluation.duplex.scenes import KINDS, Cue, Echo, Part, Scene, read_scenes, write_scenes
from icebreaker.evaluation.recordings import recording_of


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    if shutil.which("flite") is None:
        pytest.skip("flite is not installed")
    folder = tmp_path_factory.mktemp("questions")
    texts = ["what is the capital of france", "how many days are in a week", "can you name a yellow fruit"]
    return [
        Item(id=f"q{n}", audio=recording_of(text, "flite-rms", folder), seconds=2.0, text=text, voice="flite-rms")
        for n, text in enumerate(texts)
    ]


@pytest.fixture(scope="module")
def built(items: list[Item], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes")
    talkers = [item.audio for item in items]
    build_scenes(items, out, BuildConfig(per_kind=5), talkers=talkers)
    return out


def of_kind(folder: Path, kind: str) -> list[Scene]:
    return [scene for scene in read_scenes(folder / "scenes.jsonl") if scene.kind == kind]


def test_every_kind_is_built_and_the_same_seed_builds_the_same(items: list[Item], built: Path, tmp_path: Path) -> None:
    scenes = read_scenes(built / "scenes.jsonl")
    assert {scene.kind for scene in scenes} == set(KINDS)
    assert len(scenes) == 5 * len(KINDS)
    build_scenes(items, tmp_path, BuildConfig(per_kind=5), talkers=[item.audio for item in items])
    for file in sorted((built / "parts").iterdir()):
        assert file.read_bytes() == (tmp_path / "parts" / file.name).read_bytes()


def test_a_pause_cuts_a_sentence_between_two_words(items: list[Item], built: Path) -> None:
    for scene in of_kind(built, "pause"):
        first, rest = scene.parts
        (item,) = [item for item in items if item.text == " ".join(word.text for word in (*first.words, *rest.words))]
        sentence, halves = load_audio(item.audio, 16_000), [load_audio(part.audio, 16_000) for part in scene.parts]
        assert len(halves[0]) + len(halves[1]) == len(sentence)
        np.testing.assert_array_equal(halves[0][200:-200], sentence[200 : len(halves[0]) - 200])
        assert rest.cue.at_s is not None
        pause = rest.cue.at_s - len(halves[0]) / 16_000
        assert 0.6 <= pause <= 1.6
        assert f"{pause:.1f} s" == scene.about


def test_a_hesitation_says_um(built: Path) -> None:
    for scene in of_kind(built, "hesitation"):
        first, _ = scene.parts
        assert first.words[-1].text == "um"
        assert first.words[-1].start_s > first.words[-2].end_s
        assert len(load_audio(first.audio, 16_000)) / 16_000 >= first.words[-1].end_s


def test_disturbances_wait_for_the_answer(built: Path) -> None:
    for kind in ("interruption", "backchannel", "noise while speaking"):
        for scene in of_kind(built, kind):
            assert scene.parts[1].cue.speaking_s is not None
            assert 0.5 <= scene.parts[1].cue.speaking_s <= 1.2
    assert {scene.about for scene in of_kind(built, "noise")} == {"white", "pink", "cough", "knock", "babble"}
    for scene in of_kind(built, "noise"):
        sound = load_audio(scene.parts[0].audio, 16_000)
        level = 10 * np.log10(np.mean(sound**2))
        assert -36 <= level <= -21
        assert not scene.parts[0].words
    echoes = of_kind(built, "echo")
    assert {scene.echo.delay_ms for scene in echoes if scene.echo} == {60.0, 150.0, 300.0}
    assert all(len(scene.parts) == 1 for scene in echoes)


def test_scenes_survive_the_disk(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(160), 16_000)
    part = Part(role="question", audio=tmp_path / "a.wav", words=(Word("Ö", 0.0, 0.01),), cue=Cue(silent_s=0.5))
    scene = Scene(id="s", kind="echo", parts=(part,), echo=Echo(delay_ms=60, level_db=-20), about="x")
    write_scenes(tmp_path / "scenes.jsonl", [scene])
    assert read_scenes(tmp_path / "scenes.jsonl") == [scene]
    write_scenes(tmp_path / "twice.jsonl", [scene, scene])
    with pytest.raises(DataError, match="share an id"):
        read_scenes(tmp_path / "twice.jsonl")
    (tmp_path / "a.wav").unlink()
    with pytest.raises(DataError, match=r"1 recordings are missing, such as .*a\.wav"):
        read_scenes(tmp_path / "scenes.jsonl")


@pytest.mark.parametrize(
    "line",
    [
        "no json",
        "[]",
        '{"id": "a"}',
        '{"id": "a", "kind": "turn", "parts": []}',
        '{"id": "a", "kind": "?", "parts": []}',
    ],
)
def test_damaged_scenes_are_named(line: str, tmp_path: Path) -> None:
    (tmp_path / "scenes.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=r"scenes\.jsonl:1: expected a"):
        read_scenes(tmp_path / "scenes.jsonl")


def test_too_few_questions(items: list[Item], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least two"):
        build_scenes(items[:1], tmp_path, BuildConfig())


def test_questions_for_one_word_are_left_out(items: list[Item], tmp_path: Path) -> None:
    """Its answer would be as short as an uh-huh, which takes no turn however right it is."""
    answers = ("Paris.", "A week has seven days.", "A lemon is yellow.")
    asked = [replace(item, answer=answer) for item, answer in zip(items, answers, strict=True)]
    build_scenes(asked, tmp_path, BuildConfig(per_kind=3, ask_back=False))
    turns = of_kind(tmp_path, "turn")
    assert {scene.parts[0].audio.resolve() for scene in turns} == {item.audio.resolve() for item in items[1:]}
    with pytest.raises(DataError, match="got 1; an answer of 3 words or fewer"):
        build_scenes(asked[:2], tmp_path, BuildConfig())


def bench_sample(root: Path, task: str, name: str, annotation: tuple[str, object] | None, words: object = None) -> None:
    folder = root / task / name
    folder.mkdir(parents=True)
    soundfile.write(folder / "input.wav", np.linspace(-0.5, 0.5, 24_000), 8000)  # 3 s
    if annotation is not None:
        (folder / annotation[0]).write_text(json.dumps(annotation[1]))
    if words is not None:
        (folder / "transcription.json").write_text(json.dumps(words))


def test_full_duplex_bench_folders(tmp_path: Path) -> None:
    root = tmp_path / "v1"
    words = [
        {"text": "so", "timestamp": [0.1, 0.4]},
        {"text": "you", "timestamp": [1.5, 2.0]},
        {"text": "x", "timestamp": [2.5, 2.6]},
    ]
    bench_sample(root, "candor_turn_taking", "7", ("turn_taking.json", [{"timestamp": [2.1, 2.9]}]), words)
    bench_sample(root, "synthetic_pause_handling", "1", ("pause.json", [{"timestamp": [0.4, 1.5]}]), words)
    bench_sample(root, "icc_backchannel", "3", None, words)
    bench_sample(
        root, "synthetic_user_interruption", "2", ("interrupt.json", [{"timestamp": [1.0, 2.5], "interrupt": "?"}])
    )
    import_bench(root, tmp_path / "out")
    scenes = {scene.kind: scene for scene in read_scenes(tmp_path / "out" / "scenes.jsonl")}
    assert [word.end_s for word in scenes["turn"].parts[0].words] == [0.4, 2.1]
    assert scenes["turn"].id == "candor_turn_taking-7"
    assert scenes["pause"].parts[0].words[-1].end_s == 2.6
    assert len(scenes["monologue"].parts[0].words) == 3
    question, interruption = scenes["interruption"].parts
    assert interruption.cue.at_s == 1.0
    assert (interruption.words[0].start_s, interruption.words[0].end_s) == (0.0, 1.5)
    assert [len(load_audio(part.audio, 16_000)) for part in (question, interruption)] == [16_000, 32_000]


def test_full_duplex_bench_is_checked(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected folders such as"):
        import_bench(tmp_path, tmp_path / "out")
    bench_sample(tmp_path, "candor_turn_taking", "7", ("turn_taking.json", [{"time": 1}]))
    with pytest.raises(DataError, match=r"turn_taking\.json: expected"):
        import_bench(tmp_path, tmp_path / "out")

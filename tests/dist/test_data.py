"""Recipes on Ray Data with workers that are really killed: nothing is lost, nothing is there twice."""

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from post_server import completion, serve

from icebreaker.data.features import build_features
from icebreaker.data.instruct_s2s import InstructS2SConfig, build_instruct_s2s
from icebreaker.data.manifest import read_manifest
from icebreaker.data.recording import Script, record
from icebreaker.data.spread import Spread, on_ray
from icebreaker.data.synthesis import Voice
from icebreaker.data.text_llm import TextLLMConfig
from icebreaker.data.tts import SpeakerConfig
from icebreaker.errors import DataError
from icebreaker.training.unit_extraction import SpokenUnits, extract

pytestmark = pytest.mark.usefixtures("cluster")
FLITE = Voice(name="flite-slt", engine="flite", engine_voice="slt")


def quiet(done: int, total: int) -> None:
    pass


def kill_once(marker: Path) -> None:
    """End this process the hard way, unless somebody did so before."""
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def at_work(marker: Path, deadly: Any, work: Callable[[Any], Any], item: Any) -> Any:
    made = work(item)
    if item == deadly:
        kill_once(marker)
    return made


def deadly_ray(marker: Path, which: int) -> Spread:
    """Ray, but the worker dies that has done the item ``which``, before it could hand it over."""

    def spread(work: Callable[[Any], Any], items: Iterable[Any], workers: int = 1, *, gpus: float = 0) -> Iterator[Any]:
        found = list(items)
        return on_ray()(partial(at_work, marker, found[which], work), found, workers, gpus=gpus)

    return spread


def square(number: int) -> int:
    return number * number


def refuse(number: int) -> int:
    if number == 3:
        raise DataError("number 3 cannot be had")
    return number


def die(number: int) -> int:
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_killed_worker_loses_nothing_and_results_come_once(tmp_path: Path) -> None:
    assert list(deadly_ray(tmp_path / "killed", 13)(square, range(40))) == [n * n for n in range(40)]
    assert (tmp_path / "killed").exists()


def test_our_errors_arrive_as_they_were_raised() -> None:
    with pytest.raises(DataError, match="number 3 cannot be had"):
        list(on_ray()(refuse, range(6)))


def test_an_item_that_kills_every_worker_ends_the_run() -> None:
    with pytest.raises(DataError, match="work on the Ray cluster failed"):
        list(on_ray()(die, range(4)))


def half_then_die(folder: Path, work: Callable[[list[Script]], int], group: list[Script]) -> int:
    """Half of a group, a note of when it was made, and death; the second time all of it."""
    if not (folder / "killed").exists():
        work(group[: len(group) // 2])
        made = {path.name: path.stat().st_mtime_ns for path in (folder / "ray" / "audio").glob("*.flac")}
        (folder / "made.json").write_text(json.dumps(made))
        kill_once(folder / "killed")
    return work(group)


def test_synthesis_goes_on_in_the_middle_of_a_group(tmp_path: Path) -> None:
    scripts = [Script(text=f"the number is {number}", split="train", voice=FLITE) for number in range(24)]
    record(scripts, tmp_path / "here", 16_000, 1, quiet)

    def spread(work: Callable[[Any], Any], items: Iterable[Any], workers: int = 1, *, gpus: float = 0) -> Iterator[Any]:
        return on_ray()(partial(half_then_die, tmp_path, work), items, workers, gpus=gpus)

    record(scripts, tmp_path / "ray", 16_000, 1, quiet, spread)
    before = json.loads((tmp_path / "made.json").read_text())
    assert len(before) == 3  # half of the first quarter, which is recorded first
    audio = tmp_path / "ray" / "audio"
    assert {name: (audio / name).stat().st_mtime_ns for name in before} == before, "made twice"
    ours, theirs = ([item.id for item in read_manifest(tmp_path / n / "manifest.jsonl")] for n in ("here", "ray"))
    assert ours == theirs
    assert len(set(ours)) == 24
    for path in audio.iterdir():
        assert path.read_bytes() == (tmp_path / "here" / "audio" / path.name).read_bytes()

    build_features(tmp_path / "here" / "manifest.jsonl", tmp_path / "features-here")
    build_features(
        tmp_path / "here" / "manifest.jsonl", tmp_path / "features-ray", spread=deadly_ray(tmp_path / "dead", 5)
    )
    assert (tmp_path / "dead").exists()
    for name in ("frames.f16", "rows.jsonl"):
        assert (tmp_path / "features-ray" / name).read_bytes() == (tmp_path / "features-here" / name).read_bytes()

    items = read_manifest(tmp_path / "here" / "manifest.jsonl")
    extract(two_units, items, tmp_path / "units-here.jsonl")
    extract(two_units, items[:4], tmp_path / "units-ray.jsonl")
    extract(two_units, items, tmp_path / "units-ray.jsonl", spread=deadly_ray(tmp_path / "gone", 7))
    assert (tmp_path / "gone").exists()
    assert (tmp_path / "units-ray.jsonl").read_bytes() == (tmp_path / "units-here.jsonl").read_bytes()


def two_units(waveform: Any) -> SpokenUnits:
    """Stands for a model: the loud and the quiet half."""
    loud = int((abs(waveform) > 0.1).sum())
    return SpokenUnits(torch.tensor([1, 0]), torch.tensor([loud, len(waveform) - loud]))


SPEAK = """
import os, pathlib, signal, subprocess, sys
marker = pathlib.Path(sys.argv[1])
if not marker.exists():
    marker.touch()
    os.kill(os.getppid(), signal.SIGKILL)
    sys.exit(1)
subprocess.run(["espeak-ng", "-w", sys.argv[3], sys.argv[2]], check=True)
"""


def test_the_instruct_s2s_recipe_with_a_worker_killed_by_its_synthesiser(tmp_path: Path) -> None:
    """Every prompt is sent once, every item is spoken, and all files are those of a run without Ray."""
    texts = [f"Tell me about the number {number}." for number in range(12)]
    (tmp_path / "set.jsonl").write_text("\n".join(json.dumps({"instruction": text}) for text in texts))

    def handle(body: dict[str, Any], number: int) -> object:
        text = body["messages"][1]["content"]
        asked = text.rsplit("\n", 1)[-1]
        field = "question" if '{"question"' in text else "response"
        return completion(json.dumps({field: f"Well, {asked.lower().removeprefix('well, ')}"}))

    made: dict[str, dict[str, bytes]] = {}
    with serve(handle) as (url, seen):  # type: ignore[arg-type]
        for name in ("here", "ray"):
            marker, out = tmp_path / "killed", tmp_path / name / "out"
            marker.unlink(missing_ok=True) if name == "ray" else marker.touch()
            voice = SpeakerConfig(
                name="v", engine="command", command=(sys.executable, "-c", SPEAK, str(marker), "{text}", "{file}")
            )
            config = InstructS2SConfig(
                sources=(Path("set.jsonl"),), question_voices=(voice,), answer_voice=voice,
                llm=TextLLMConfig(endpoint=f"{url}/v1", model="any", workers=4),
            )  # fmt: skip
            seen.clear()
            spread = {"spread": on_ray()} if name == "ray" else {}
            report = build_instruct_s2s(config, tmp_path, out, **spread)
            assert report["spoken"] == 12
            prompts = Counter(body["messages"][1]["content"] for body in seen)
            assert len(prompts) == 24
            assert set(prompts.values()) == {1}
            made[name] = {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}
    assert marker.exists()
    assert made["ray"] == made["here"]

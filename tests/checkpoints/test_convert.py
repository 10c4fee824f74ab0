from pathlib import Path

import pytest
import torch

from icebreaker.checkpoints import find
from icebreaker.checkpoints.bundle import load_bundle
from icebreaker.checkpoints.convert import convert
from icebreaker.checkpoints.describe import describe, render
from icebreaker.checkpoints.find import find_model, load_parts
from icebreaker.checkpoints.freeze_omni import load_official
from icebreaker.errors import CheckpointError

GOLDEN = Path(__file__).parents[1] / "golden" / "freeze-omni-tiny"
OFFICIAL = GOLDEN / "checkpoints"
PARTS = ("encoder", "adapter", "prompts", "turn_head", "codec_lm", "codec")


def test_a_converted_release_is_the_same_model(tmp_path: Path, llm_folder: Path) -> None:
    convert(OFFICIAL, tmp_path / "bundle", llm=llm_folder)
    assert not (tmp_path / "bundle" / "llm").exists()
    ours, theirs = load_bundle(tmp_path / "bundle", llm_folder), load_official(OFFICIAL, llm_folder)
    for part in PARTS:
        expected = getattr(theirs, part).state_dict()
        for name, value in getattr(ours, part).state_dict().items():
            assert torch.equal(value, expected[name]), (part, name)
        assert getattr(ours, part).config == getattr(theirs, part).config if part in ("encoder", "codec") else True
    assert ours.settings == theirs.settings
    assert ours.chat == theirs.chat
    assert ours.voice is not None
    assert theirs.voice is not None
    assert torch.equal(ours.voice, theirs.voice)


def test_half_precision_and_an_embedded_llm(tmp_path: Path, llm_folder: Path) -> None:
    convert(OFFICIAL, tmp_path / "bundle", llm=llm_folder, half=True, embed_llm=True)
    description = describe(tmp_path / "bundle")
    assert description["llm"]["path"] == "llm"
    assert description["parts"]["adapter"]["bytes"] == 2 * description["parts"]["adapter"]["parameters"]
    assert load_parts(tmp_path / "bundle").llm.width == 128


def test_what_cannot_be_converted_says_why(tmp_path: Path, llm_folder: Path) -> None:
    with pytest.raises(CheckpointError, match="with --llm"):
        convert(OFFICIAL, tmp_path / "b")
    with pytest.raises(CheckpointError, match=r"width 128, .* width 3584"):
        convert(GOLDEN / "official-shape" / "checkpoints", tmp_path / "b", llm=llm_folder)
    with pytest.raises(CheckpointError, match=r"expected the official checkpoints .* or training runs"):
        convert(tmp_path, tmp_path / "b")


def test_a_description_counts_every_part(llm_folder: Path) -> None:
    description = describe(OFFICIAL)
    assert description["kind"] == "official Freeze-Omni checkpoints"
    head = description["parts"]["turn_head"]
    assert (head["parameters"], head["bytes"]) == (4 * 128 + 4, 2 * (4 * 128 + 4))
    assert len({part["sha256"] for part in description["parts"].values()}) == len(PARTS)
    assert head["sha256"][:16] in render(description)
    assert description["parameters"] == sum(part["parameters"] for part in description["parts"].values())
    assert (description["frame_ms"], description["code_ms"]) == (80.0, 25.0)
    text = render(description)
    assert "turn_head" in text
    assert "given separately with --llm" in text


def test_names_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "BUNDLED", tmp_path)
    with pytest.raises(CheckpointError, match=r"mini: neither a folder nor a bundle .* \(none\)"):
        find_model("mini")
    (tmp_path / "mini").mkdir()
    assert find_model("mini") == tmp_path / "mini"
    assert find_model(OFFICIAL) == OFFICIAL
    with pytest.raises(CheckpointError, match=r"expected a bundle .* found nothing"):
        load_parts("mini")

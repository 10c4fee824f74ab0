"""The command line as a user meets it: real files, exit codes, one line for an error."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner, Result

from icebreaker.cli import app, main

GOLDEN = Path(__file__).parent / "golden" / "freeze-omni-tiny"
OFFICIAL = ["--model", str(GOLDEN / "checkpoints"), "--llm", str(GOLDEN / "llm")]
QUESTION = Path(__file__).parents[1] / "examples" / "question.wav"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """``icebreaker ARGUMENTS`` in this process: exit code, standard output, standard error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["icebreaker", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call


def write(path: Path, samples: np.ndarray, rate: int = 16_000, **kwargs: str) -> Path:
    soundfile.write(path, samples, rate, **kwargs)
    return path


def test_help_is_light() -> None:
    """``--help`` imports neither torch nor transformers: that is what keeps it instant."""
    script = (
        "import sys; from icebreaker.cli import app\n"
        "heavy = {'torch', 'transformers', 'onnxruntime', 'soundfile', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    result: Result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    for command in ("talk", "train", "data", "convert", "info"):
        assert command in result.stdout


def test_official_checkpoints_answer(run, tmp_path: Path) -> None:
    out = tmp_path / "answer.wav"
    code, stdout, _ = run("talk", str(QUESTION), *OFFICIAL, "--out", str(out), "--json", "--seed", "3")
    assert code == 0
    report = json.loads(stdout)
    waveform, rate = soundfile.read(out)
    assert rate == 24_000
    assert len(waveform) == pytest.approx(report["answer_s"] * rate, abs=20)
    assert list(report["latency_ms"]) == ["first text", "speech decoder prefilled", "first codes", "first sound"]
    assert sorted(report["latency_ms"].values()) == list(report["latency_ms"].values())


def test_convert_then_talk_is_the_same(run, tmp_path: Path) -> None:
    bundle, first, second = tmp_path / "bundle", tmp_path / "a.wav", tmp_path / "b.wav"
    assert run("convert", str(GOLDEN / "checkpoints"), str(bundle), "--llm", str(GOLDEN / "llm"))[0] == 0
    assert run("talk", str(QUESTION), *OFFICIAL, "--out", str(first))[0] == 0
    arguments = ["--model", str(bundle), "--llm", str(GOLDEN / "llm"), "--out", str(second)]
    assert run("talk", str(QUESTION), *arguments)[0] == 0
    np.testing.assert_array_equal(soundfile.read(first)[0], soundfile.read(second)[0])
    code, stdout, _ = run("info", str(bundle), "--json")
    assert code == 0
    assert json.loads(stdout)["llm"]["width"] == 128


@pytest.mark.parametrize(
    ("rate", "channels", "seconds"), [(8_000, 1, 0.5), (192_000, 2, 0.2), (44_100, 6, 0.3), (16_000, 1, 1 / 16_000)]
)
def test_odd_recordings_are_answered(run, tmp_path: Path, rate: int, channels: int, seconds: float) -> None:
    samples = 0.3 * np.random.default_rng(0).standard_normal((max(1, round(rate * seconds)), channels))
    path = write(tmp_path / "odd.wav", samples.clip(-1, 1), rate)
    code, stdout, _ = run("talk", str(path), *OFFICIAL, "--json")
    assert code == 0
    assert json.loads(stdout)["question_s"] == pytest.approx(np.ceil(seconds / 0.16) * 0.16, abs=0.17)


def test_bad_recordings_are_one_line(run, tmp_path: Path) -> None:
    empty = write(tmp_path / "empty.wav", np.zeros(0))
    corrupt = tmp_path / "corrupt.wav"
    corrupt.write_bytes(b"RIFF\x00\x00 this is no sound")
    long = write(tmp_path / "long.wav", np.zeros(16_000 * 125, dtype=np.int16))
    for path, word in ((empty, "empty"), (corrupt, "corrupt"), (long, "longer than"), (tmp_path / "none.wav", "none")):
        code, _, stderr = run("talk", str(path), *OFFICIAL, "--out", str(tmp_path / "answer.wav"))
        assert code == 1, path
        assert word in stderr
        assert "Traceback" not in stderr
        assert stderr.strip().count("\n") <= 1
        assert not (tmp_path / "answer.wav").exists()


def test_bad_models_are_one_line(run, tmp_path: Path) -> None:
    for model, llm, words in (
        (tmp_path / "nothing", GOLDEN / "llm", "neither a folder nor a bundle"),
        (GOLDEN / "checkpoints", tmp_path / "no-llm", "no-llm"),
        (GOLDEN / "llm", GOLDEN / "llm", "not the configuration of a bundle"),
    ):
        code, _, stderr = run("talk", str(QUESTION), "--model", str(model), "--llm", str(llm))
        assert code == 1
        assert words in stderr
        assert "Traceback" not in stderr


def test_usage_errors_exit_with_2(run, tmp_path: Path) -> None:
    assert run("talk", str(QUESTION), "--dtype", "float7")[0] == 2
    assert run("fly")[0] == 2
    config = tmp_path / "stage.toml"
    config.write_text('stage = "backbone"\noutput = "x"\ncolour = 3\n')
    code, _, stderr = run("train", str(config))
    assert code == 2
    assert "unknown key 'colour'; valid keys are" in stderr
    config.write_text('stage = "bakcbone"\n')
    code, _, stderr = run("train", str(config))
    assert code == 2
    assert "expected stage = one of backbone" in stderr


def test_debug_shows_the_traceback(run, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="neither a folder"):
        run("--debug", "talk", str(QUESTION), "--model", str(tmp_path / "nothing"))


def test_what_cannot_be_used_is_refused_before_any_work(run, tmp_path: Path) -> None:
    for arguments, words in (
        ((str(QUESTION), "--device", "toaster"), "device 'toaster' cannot be used here"),
        ((str(QUESTION), "--out", str(tmp_path / "nowhere" / "answer.wav")), "there is no folder"),
        ((str(QUESTION), "--out", str(tmp_path)), "it is a folder"),
        (("--json",), "give a recording"),
    ):
        code, stdout, stderr = run("talk", *arguments, *OFFICIAL)
        assert code == 2, arguments
        assert words in " ".join(stderr.split())
        assert "Traceback" not in stderr
        assert stdout == ""


def test_our_own_bugs_are_one_line_too(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*args: object, **kwargs: object) -> None:
        raise RuntimeError("CUDA out of memory\nand a page of advice")

    monkeypatch.setattr("icebreaker.talking.load_dialogue", out_of_memory)
    code, _, stderr = run("talk", str(QUESTION))
    assert code == 1
    assert stderr == "icebreaker: CUDA out of memory (run again with --debug for the traceback)\n"


def test_info_names_a_damaged_file(run, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    assert run("convert", str(GOLDEN / "checkpoints"), str(bundle), "--llm", str(GOLDEN / "llm"))[0] == 0
    weights = bundle / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    code, _, stderr = run("info", str(bundle))
    assert code == 1
    assert "model.safetensors: not a whole safetensors file" in stderr

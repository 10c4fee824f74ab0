"""The command on the official LLaMA-Omni layout, as a user gives it."""

import json
from pathlib import Path

import soundfile
from omni_golden import MODEL, OMNI, SPEECH_ENCODER, VOCODER, facts
from typer.testing import CliRunner

from icebreaker.cli import app


def test_a_recorded_question_is_answered_aloud(tmp_path: Path) -> None:
    out = tmp_path / "answer.wav"
    result = CliRunner().invoke(
        app,
        [
            "talk", str(OMNI / "audio" / "a.wav"), "--model", str(MODEL), "--speech-encoder", str(SPEECH_ENCODER),
            "--vocoder", str(VOCODER), "--omega", "10", "--out", str(out), "--json",
        ],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["text"].strip() == facts("g8_e2e")["a"]["text"]
    assert 0 < report["latency_ms"]["first text"] <= report["latency_ms"]["first sound"] < report["total_ms"]
    sound, rate = soundfile.read(out)
    assert rate == 16_000
    assert len(sound) == round(report["answer_s"] * rate)
    assert len(sound) > rate

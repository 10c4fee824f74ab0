"""The four released clients, each in a process of its own, hold conversations over a real socket."""

import json
import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from served import PATIENCE_S, Served, serving, silence, utterance

from icebreaker.audio.pcm import load_audio
from icebreaker.engine.engine import Engine, EngineConfig
from icebreaker.engine.messages import Item
from icebreaker.engine.scripted import ScriptedEngine
from icebreaker.talking import load_dialogue

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("ICEBREAKER_CLIENTS_PYTHON") or ROOT / ".venv-clients" / "bin" / "python")
CLIENTS = ("openai", "agents", "livekit", "pipecat")
SLOW_MOTION = PATIENCE_S / 2.5
ANSWER = "The capital of France is Paris, a city of two million people and many cafes."

pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="the clients' environment is not there: make .venv-clients/.installed"
)


def script(items, config):
    """Paris to everything; with a tool, first the tool, then what it said."""
    outputs = [item for item in items if item.kind == "function_call_output"]
    if outputs:
        return f"It is {outputs[-1].text.strip(chr(34))} in Oslo."
    if config.tools:
        return Item(
            id="item_call", kind="function_call", name="weather", arguments='{"city": "Oslo"}', call_id="call_1"
        )
    return ANSWER


def run(client: str, address: str, sound: Path, *scenarios: str, **how: str) -> dict[str, dict]:
    """What a client tells of each scenario; ``how`` is for its environment."""
    driver = Path(__file__).parent / "clients" / f"{client}_driver.py"
    result = subprocess.run(
        [PYTHON, driver, address, sound, *scenarios], capture_output=True, text=True, check=False,
        timeout=30 * PATIENCE_S, env={**os.environ, "OPENAI_AGENTS_DISABLE_TRACING": "1", **how},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


def words(texts: list[str]) -> str:
    return "".join("".join(texts).split())


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_holds_its_conversations(client: str, tmp_path: Path) -> None:
    """Turns led by the server and by the client, a barge-in that takes back what was not heard, a tool."""
    sound = tmp_path / "question.pcm"
    sound.write_bytes((utterance() * 32767).astype("<i2").tobytes())
    with serving(lambda: ScriptedEngine(script, delta_s=0.1, grace_s=600)) as served:
        told = run(client, served.http, sound, "turn", "client", "barge", "tool")
        sessions = list(served.engine._lobby.sessions.values())
        said = [[item.text for item in s.conversation.items if item.role == "assistant"] for s in sessions]
    assert len(said) == 4
    assert [each["errors"] for each in told.values()] == [[], [], [], []]
    for name in ("turn", "client"):
        assert [text[:10] for text in told[name]["heard"]] == ["speech of "]
        assert words(told[name]["said"]).endswith(words([ANSWER]))
        assert told[name]["audio_ms"] % (len(ANSWER) * 60) == pytest.approx(0, abs=1)
        assert told[name]["audio_ms"] > 0
    assert told["barge"]["cancelled"] == "turn_detected"
    *_, cut, whole = said[2]
    assert whole == ANSWER
    assert ANSWER.startswith(cut)
    assert 0 < len(cut) < len(ANSWER) / 2
    assert told["tool"]["call"] == ["weather", {"city": "Oslo"}]
    assert said[3] == ["It is sunny in Oslo."]


@pytest.fixture(scope="module")
def mini():
    dialogue = load_dialogue("mini", None)
    with serving(lambda: Engine(dialogue, EngineConfig(slots=2, max_sessions=4))) as served:
        yield served


@pytest.fixture(scope="module")
def slow_mini(mini: Served):
    """The same model by a clock that goes slower: however long it computes, its answer is not over too soon."""
    device = mini.engine.device
    dialogue = device.dialogue.with_duplex(device.duplex)  # the engine leaves its own dialogue none
    config = EngineConfig(slots=2, max_sessions=4)
    with serving(lambda: Engine(dialogue, config, clock=lambda: time.monotonic() / SLOW_MOTION)) as served:
        yield served


@pytest.mark.parametrize("client", CLIENTS)
def test_the_bundled_model_is_interrupted_through_a_client(slow_mini: Served, client: str, tmp_path: Path) -> None:
    """The recorded question, and the same again over the answer: that is cut, remembered as heard, and answered anew.

    The answer lasts about two seconds of its clock; the second question begins after a quarter of one.
    """
    mini = slow_mini
    sound, question = tmp_path / "question.pcm", load_audio(ROOT / "examples" / "question.wav", 24_000)
    sound.write_bytes((np.concatenate([question, silence(2500)]) * 32767).astype("<i2").tobytes())
    told = run(client, mini.http, sound, "barge", ENOUGH_MS="250", PATIENCE=str(PATIENCE_S / 5))["barge"]
    assert told["errors"] == []
    assert told["cancelled"] == "turn_detected"
    live = list(mini.engine._lobby.sessions.values())[-1].live
    *_, cut, whole = [entry for entry in live.memory.conversation if entry.item.role == "assistant"]
    assert cut.heard < len(cut.tokens)
    assert (cut.item.status, whole.item.status) == ("incomplete", "completed")
    assert len(cut.item.text) < len(live.device.llm.tokenizer.decode(cut.tokens).strip())
    assert whole.item.text == live.device.llm.tokenizer.decode(whole.tokens, skip_special_tokens=True).strip()
    assert whole.heard == len(whole.tokens) >= 2
    assert whole.item.text.endswith((".", "?"))
    heard = live.device.llm.tokenizer.decode([key for key in live.talking.reading(live.config, room=0) if key >= 0])
    assert cut.item.text in heard
    assert mini.engine.stats().barge_ins >= 1


@pytest.mark.parametrize("example", ["openai", "openai_agents", "livekit", "pipecat"])
def test_an_example_is_answered_by_the_bundled_model(mini: Served, example: str, tmp_path: Path) -> None:
    script, question = ROOT / "examples" / f"{example}_client.py", ROOT / "examples" / "question.wav"
    result = subprocess.run(
        [PYTHON, script, mini.http, question], capture_output=True, text=True, timeout=200, check=False, cwd=tmp_path,
        env={**os.environ, "OPENAI_AGENTS_DISABLE_TRACING": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    answer = result.stdout.strip().splitlines()[-1]
    assert len(answer.split()) >= 2
    assert answer[0].isupper()
    assert answer.endswith((".", "!", "?"))

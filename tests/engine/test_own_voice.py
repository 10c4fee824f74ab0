"""The mini model hears its own voice from the loudspeaker: it goes on, and still hears who speaks over it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr

from icebreaker.audio.pcm import load_audio
from icebreaker.dialogue import Dialogue
from icebreaker.engine.engine import Engine, EngineConfig
from icebreaker.engine.messages import AddItem, Append, AudioDelta, Item, ReplyDone, Respond, SessionConfig
from icebreaker.engine.messages import SpeechStarted as Interrupted
from icebreaker.talking import load_dialogue

QUESTION = Path(__file__).parents[2] / "examples" / "question.wav"
FRAME = 640  # 40 ms
ASKED = ("What is the capital of France?", "How many days are in a week?", "What is the opposite of hot?")


class LivingRoom:
    """A loudspeaker that plays what the engine sends, and a microphone ``delay_ms`` and ``gain`` away from it."""

    def __init__(self, dialogue: Dialogue, delay_ms: int, gain: float) -> None:
        self.now_s, self.gain = 10.0, gain
        self.engine = Engine(dialogue, EngineConfig(slots=1), clock=lambda: self.now_s)
        self.session = self.engine.enter(SessionConfig(turns="model"))
        self.played = np.zeros(0, np.float32)  # what the loudspeaker is still to play
        self.on_its_way = np.zeros(16 * delay_ms, np.float32)
        self.events: list[Any] = []
        self.held_s = 0.0  # that the engine held its breath

    def live(self, seconds: float, user: np.ndarray | None = None) -> None:
        """Time goes on; ``user`` [S] speaks from its beginning."""
        spoken = np.zeros(round(seconds * 16000) // FRAME * FRAME, np.float32)
        if user is not None:
            spoken[: len(user)] = user[: len(spoken)]
        for start in range(0, len(spoken), FRAME):
            sound, self.played = self.played[:FRAME], self.played[FRAME:]
            self.on_its_way = np.concatenate([self.on_its_way, sound, np.zeros(FRAME - len(sound), np.float32)])
            echo, self.on_its_way = self.on_its_way[:FRAME], self.on_its_way[FRAME:]
            frame = spoken[start : start + FRAME] + self.gain * echo
            self.session.push(Append(waveform=frame.astype(np.float32)))
            self.engine.loop.tick()
            self.now_s += FRAME / 16000
            self.held_s += FRAME / 16000 * self.session.live.valve.is_held
            self._listen()

    def ask(self, text: str) -> None:
        """In writing, so that the microphone hears the answer alone."""
        self.session.push(AddItem(item=Item(id=f"u{len(self.events)}", role="user", text=text)))
        self.session.push(Respond())

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def _listen(self) -> None:
        for event in self.session.outbox.take():
            self.events.append(event)
            if isinstance(event, AudioDelta):
                sound = soxr.resample(event.waveform, self.engine.sample_rate, 16000)
                self.played = np.concatenate([self.played, sound.astype(np.float32)])


@pytest.fixture(scope="module")
def dialogue() -> Dialogue:
    return load_dialogue("mini", None)


@pytest.mark.parametrize(("delay_ms", "gain"), [(80, 0.25), (240, 0.1)])
def test_its_own_voice_does_not_interrupt_it(dialogue: Dialogue, delay_ms: int, gain: float) -> None:
    room = LivingRoom(dialogue, delay_ms, gain)
    for text in ASKED:
        room.ask(text)
        room.live(4.0)
    assert [event.reply.status for event in room.of(ReplyDone)] == ["completed"] * len(ASKED)
    assert not room.of(Interrupted)
    assert room.held_s < 0.2, "nor does it stutter"


def test_who_speaks_over_its_voice_interrupts_it(dialogue: Dialogue) -> None:
    room = LivingRoom(dialogue, 80, 0.1)
    for text in ASKED:  # by then the echo is known
        room.ask(text)
        room.live(3.5)
    room.ask(ASKED[0])
    room.live(0.4)
    room.live(2.5, load_audio(QUESTION, 16000))
    assert len(room.of(Interrupted)) == 1
    cut = [entry for entry in room.session.live.memory.conversation if entry.item.role == "assistant"][len(ASKED)]
    assert cut.heard < len(cut.tokens), "what was not heard was never said"
    assert cut.item.status == "incomplete"

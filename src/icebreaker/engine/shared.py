"""What the parts of a live conversation share. Knows none of them."""

from icebreaker.dialogue.parts import DialogueSettings
from icebreaker.duplex import DuplexConfig
from icebreaker.engine.device import Device, Slot
from icebreaker.engine.echo import EchoDetector
from icebreaker.engine.habits import Habits
from icebreaker.engine.hearing import AudioBuffer
from icebreaker.engine.loudspeaker import Loudspeaker
from icebreaker.engine.memory import Memory
from icebreaker.engine.messages import Item, ItemAdded, SessionConfig, SessionEvent
from icebreaker.engine.valve import Valve

__all__ = ["Shared"]


class Shared:
    """The conversation's memory, its slot, and what it tells.

    Attributes:
        config: how the conversation is led.
        habits: of the engine.
        slot: its place on the device, while it has one.
        events: not yet sent.
        changed: there is something new to be stored.
        buffer: the microphone's newest sound.
        valve: the way of the assistant's sound.
        echo: compares the two.
        counts: of what happened, by name.
    """

    def __init__(self, config: SessionConfig, device: Device, memory: Memory, habits: Habits) -> None:
        self.config, self.device, self.memory, self.habits = config, device, memory, habits
        self.slot: Slot | None = None
        self.events: list[SessionEvent] = []
        self.changed = False
        self.buffer = AudioBuffer()
        self.valve = Valve(device.dialogue.sample_rate)
        self.echo = EchoDetector()
        self.loudspeaker = Loudspeaker(self.valve, self.echo)
        self.counts = {"replies": 0, "barge_ins": 0, "underruns": 0, "guesses": 0, "good_guesses": 0}
        self.first_audio_ms: list[float] = []

    @property
    def settings(self) -> DialogueSettings:
        """Of the model."""
        return self.device.dialogue.settings

    @property
    def duplex(self) -> DuplexConfig:
        """The model's own thresholds of its state head; ``settings`` has none, since the engine decides."""
        return self.device.duplex

    def emit(self, event: SessionEvent) -> None:
        """Tell whoever listens."""
        self.events.append(event)

    def added(self, item: Item, before: str | None) -> None:
        """Tell of a new item."""
        self.changed = True
        self.emit(ItemAdded(item=item, previous_item_id=before))

    def follow_sound(self) -> None:
        """Take note of what was sent to be played."""
        self.counts["underruns"] += self.loudspeaker.follow(self.buffer.stop)

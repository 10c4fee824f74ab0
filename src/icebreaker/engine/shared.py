"""What the two halves of a live conversation share. Knows neither of them."""

from icebreaker.dialogue.parts import DialogueSettings
from icebreaker.engine.device import Device, Slot
from icebreaker.engine.echo import EchoDetector
from icebreaker.engine.hearing import AudioBuffer
from icebreaker.engine.memory import Memory
from icebreaker.engine.messages import Item, ItemAdded, SessionConfig, SessionEvent

__all__ = ["Shared"]


class Shared:
    """The conversation's memory, its slot, and what it tells.

    Attributes:
        config: how the conversation is led.
        slot: its place on the device, while it has one.
        events: not yet sent.
        changed: there is something new to be stored.
        buffer: the microphone's newest sound.
        echo: compares that with what is played.
        counts: of what happened, by name.
    """

    def __init__(self, config: SessionConfig, device: Device, memory: Memory) -> None:
        self.config, self.device, self.memory = config, device, memory
        self.slot: Slot | None = None
        self.events: list[SessionEvent] = []
        self.changed = False
        self.buffer = AudioBuffer()
        self.echo = EchoDetector()
        self.counts = {"replies": 0, "barge_ins": 0, "underruns": 0}
        self.first_audio_ms: list[float] = []

    @property
    def settings(self) -> DialogueSettings:
        """Of the model."""
        return self.device.dialogue.settings

    def emit(self, event: SessionEvent) -> None:
        """Tell whoever listens."""
        self.events.append(event)

    def added(self, item: Item, before: str | None) -> None:
        """Tell of a new item."""
        self.changed = True
        self.emit(ItemAdded(item=item, previous_item_id=before))

"""One conversation inside the engine: what commands, sound and verdicts do to it. Lives on the engine's thread.

It reads no clock (times come in, in seconds) and runs no model: it tells the device what its slot should do.
``listening`` and ``intake`` have the user's half, ``talking`` the assistant's.
"""

import logging
import math
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from icebreaker.audio.vad import SileroState
from icebreaker.engine.conversation import Refused
from icebreaker.engine.device import Device, Slot
from icebreaker.engine.habits import Habits
from icebreaker.engine.intake import Intake
from icebreaker.engine.listening import Listening
from icebreaker.engine.memory import Memory, Remembered
from icebreaker.engine.messages import (
    AddItem,
    Append,
    Cancel,
    ClearAudio,
    Command,
    Commit,
    Configure,
    DeleteItem,
    Failed,
    Item,
    ItemAdded,
    ItemDeleted,
    ItemTruncated,
    Respond,
    SessionConfig,
    SessionEvent,
    Truncate,
    Waveform,
)
from icebreaker.engine.outbox import Outbox
from icebreaker.engine.shared import Shared
from icebreaker.engine.talking import Talking
from icebreaker.models.kv_cache import KVCache

__all__ = ["Live"]

logger = logging.getLogger(__name__)


class Live(Shared):
    """A conversation and the slot it may have."""

    def __init__(
        self, session_id: str, config: SessionConfig, device: Device, memory: Memory, voice: SileroState,
        knows_tools: bool, habits: Habits,
    ) -> None:  # fmt: skip
        super().__init__(config, device, memory, habits)
        self.id, self.voice, self.knows_tools = session_id, voice, knows_tools
        self.commands: deque[Command] = deque()
        self.saved: tuple[KVCache, list[int]] | None = None  # the context of a slot that was given away
        self.used_s = 0.0  # when the slot was last needed
        self.outbox: Outbox | None = None
        self.pushed_commands = self.pushed_samples = 0  # only the event loop counts these
        self.done_commands = 0  # and only the engine's thread this
        self.idle_since_s: float | None = None
        self.talking = Talking(self)
        self.listening = Listening(self, self.talking)
        self.intake = Intake(self, self.listening, self.talking)
        self.configure(config)

    def guarded(self, action: Callable[[], None], command: Command | None = None) -> bool:
        """Run something; what is refused becomes an event. Returns whether it was done."""
        try:
            action()
        except Refused as refusal:
            self.emit(Failed(code=refusal.code, message=str(refusal), command=command))
            return False
        return True

    @property
    def waiting_commands(self) -> int:
        """That were pushed and not looked at yet."""
        return self.pushed_commands - self.done_commands

    @property
    def waiting_samples(self) -> int:
        """Of the audio that was pushed, what nobody has looked at yet."""
        utterance = self.listening.utterance
        behind = utterance is not None and self.config.turns == "client" and utterance.audio is None
        return self.pushed_samples - (utterance.fed if behind and utterance else self.listening.attention.window_at)

    # Commands.

    def configure(self, config: SessionConfig) -> None:
        """Lead the conversation by ``config`` from now on."""
        if config.tools and not self.knows_tools:
            logger.warning("session %s: the LLM's chat template knows no tools, they are ignored", self.id)
            message = "this LLM's chat template knows no tools, so they are ignored; use a model that does"
            self.emit(Failed(code="tools_unsupported", message=message))
            config = replace(config, tools=())
        if config.turns == "client" != self.config.turns:
            self.listening.abandon()
        self.talking.guessing.drop()
        self.config = config
        may_stop = config.turns != "client" and config.interrupt_response
        self.valve.lead_s = self.habits.lead_s if may_stop else math.inf
        self.valve.pauses = config.playback_hold

    def work(self, now_s: float) -> None:
        """Carry out commands, as far as they do not wait for audio to be heard."""
        while self.commands and not self.listening.ending:
            command = self.commands.popleft()
            self.done_commands += 1
            self.guarded(lambda command=command: self._do(command, now_s), command)  # type: ignore[misc]

    def _do(self, command: Command, now_s: float) -> None:
        match command:
            case Append(waveform=waveform):
                self.listening.append(waveform)
            case Configure(config=config):
                self.configure(config)
            case Commit(item_id=item_id):
                self.listening.commit(item_id)
            case ClearAudio():
                self.listening.clear()
            case AddItem(item=item, previous_item_id=previous, waveform=waveform):
                self._add(item, previous, waveform)
            case DeleteItem(item_id=item_id):
                self._delete(item_id, now_s)
            case Truncate(item_id=item_id, audio_end_ms=ms):
                self._truncate(item_id, ms, now_s)
            case Respond():
                self.talking.start(command, now_s)
            case Cancel():
                if not self.talking.under_way:
                    raise Refused("no_active_reply", "expected a reply to cancel, there is none; nothing to do")
                self.talking.stop("client_cancelled", now_s)

    def _add(self, item: Item, previous: str | None, waveform: Waveform | None) -> None:
        if item.kind == "message" and item.role is None:
            raise Refused("invalid", "expected a message's role: system, user or assistant")
        if item.id in self.memory.conversation:
            raise Refused("item_exists", f"expected a new item id, got {item.id!r}, which is in use; leave it out")
        if waveform is not None:
            if previous is not None or self.listening.utterance is not None:
                raise Refused(
                    "invalid", "a spoken item can only be added at the end, while nobody speaks; commit first"
                )
            self.listening.add_spoken(item, waveform)
            return
        before = self.memory.add(Remembered(item), previous)
        self.added(item, before)
        self.reread()

    def _delete(self, item_id: str, now_s: float) -> None:
        self.memory.find(item_id)
        if self.talking.under_way and self.talking.speech.item_id == item_id:  # type: ignore[union-attr]
            self.talking.stop("client_cancelled", now_s)
        self.memory.delete(item_id)
        self.changed = True
        self.emit(ItemDeleted(item_id=item_id))
        self.reread()

    def _truncate(self, item_id: str, audio_end_ms: float, now_s: float) -> None:
        speech = self.talking.speech
        if self.memory.find(item_id).item.role != "assistant":
            raise Refused("invalid", f"expected an assistant's message to truncate, {item_id!r} is none")
        if speech is not None and speech.item_id == item_id:
            self.talking.stop("client_cancelled", now_s)
            self.talking.silence(now_s)
            self.talking.ending.find_words(speech)
        samples = round(max(0.0, audio_end_ms) * self.device.dialogue.sample_rate / 1000)
        entry = self.memory.set_heard(item_id, samples)
        self.changed = True
        self.emit(ItemTruncated(item_id=item_id, audio_end_ms=audio_end_ms, text=entry.item.text))
        self.reread()

    def reread(self) -> None:
        """The items have changed: what is going on goes on after what they say now."""
        self.talking.reread()
        self.intake.reread()

    # The slot.

    @property
    def needs_slot(self) -> bool:
        """Whether there is anything for the device to do."""
        return self.listening.utterance is not None or self.talking.making

    def give_up_slot(self) -> None:
        """Somebody else needs it more; what was read is kept."""
        assert self.slot is not None
        self.device.rest(self.slot)
        cache = self.device.save(self.slot)
        self.saved = cache, self.slot.keys[: int(cache.length[0])]
        self.device.reset(self.slot.index)
        self.slot = None

    def take_slot(self, index: int) -> None:
        """A slot of its own, with what was read before."""
        self.device.reset(index)
        self.slot = Slot(index)
        if self.saved is not None:
            cache, self.slot.keys = self.saved
            self.device.restore(self.slot, cache)
            self.saved = None

    def prepare(self, now_s: float) -> None:
        """Have the slot begin what is to be begun."""
        self.used_s = now_s
        self.intake.prepare()
        self.begin_reply(now_s)

    def begin_reply(self, now_s: float) -> None:
        """Have the slot begin a reply that was decided on, if there is one."""
        if self.talking.making and not self.talking.speech.begun:  # type: ignore[union-attr]
            self.intake.step_aside()
            self.talking.prepare(now_s)

    # The clock.

    def waits_for_time(self, now_s: float) -> bool:
        """Whether something may happen without a command or any work for the device."""
        return self.talking.audible(now_s)

    def look_at_clock(self, now_s: float) -> None:
        """Do what waited for its time: end a reply, begin the next one, or speak up after a long silence."""
        talking, config = self.talking, self.config
        talking.settle()
        if talking.waiting is not None and not talking.under_way:
            (command, speech_end_s), talking.waiting = talking.waiting, None
            self.guarded(lambda: talking.start(command, now_s, speech_end_s=speech_end_s))
        quiet = talking.speech is not None and not talking.audible(now_s) and self.listening.utterance is None
        if not quiet or config.idle_timeout_ms is None:
            self.idle_since_s = None
        elif self.idle_since_s is None:
            self.idle_since_s = now_s
        elif 1000 * (now_s - self.idle_since_s) >= config.idle_timeout_ms and not talking.nudged:
            self.guarded(lambda: talking.start(Respond(), now_s, nudge=True))

    # The end.

    def leave(self, now_s: float) -> None:
        """Nobody is there any more: stop to speak and to listen."""
        self.done_commands += len(self.commands)
        self.commands.clear()
        self.listening.abandon()
        self.talking.stop("client_cancelled", now_s)
        self.talking.waiting = None

    def fail(self, error: Exception, now_s: float) -> None:
        """Something went wrong in this conversation, and only here: begin again from its items."""
        if isinstance(error, Refused):
            self.emit(Failed(code=error.code, message=str(error)))
        else:
            logger.error("session %s: %s", self.id, error, exc_info=error)
            self.emit(Failed(code="internal", message=f"{type(error).__name__}: {error}"[:300]))
        self.talking.fail(now_s)
        self.listening.abandon()
        self.abort()

    def abort(self) -> None:
        """Drop whatever is going on, without a word."""
        self.listening.utterance = None
        self.talking.waiting = self.talking.guessing.guess = None
        if self.talking.speech is not None:
            self.talking.speech.making, self.talking.speech.done = False, True
        self.valve.cut()
        self.saved = None
        if self.slot is not None:
            self.device.reset(self.slot.index)
            self.slot.keys = []

    def items(self) -> list[SessionEvent]:
        """An ``ItemAdded`` for every item, for whoever comes back."""
        events: list[SessionEvent] = []
        before: str | None = None
        for item in self.memory.conversation.items:
            events.append(ItemAdded(item=item, previous_item_id=before))
            before = item.id
        return events

    def bytes_kept(self) -> int:
        """Memory outside of slots."""
        kept = sum(blob.numel() * blob.element_size() for blob in self.memory.blobs.values())
        if self.saved is not None:
            kept += sum(t.numel() * t.element_size() for t in (*self.saved[0].keys, *self.saved[0].values))
        return kept

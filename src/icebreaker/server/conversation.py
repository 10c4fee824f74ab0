"""One conversation between a Realtime client and an engine's session: what the client asks, and what it may not.

The way back is ``telling``. Knows no sockets.
"""

import secrets
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from icebreaker.engine import messages as m
from icebreaker.engine.interface import SessionLike
from icebreaker.errors import ProtocolError
from icebreaker.server import client_events as c
from icebreaker.server.events import Stamp, error_event
from icebreaker.server.fields import JSON, Fields, shown
from icebreaker.server.items import read_item
from icebreaker.server.settings import Settings
from icebreaker.server.sound import HEARD_RATE, Ears
from icebreaker.server.telling import Teller

__all__ = ["Conversation"]

UNANSWERED = 64  # commands whose client event is remembered, to be named if they fail
CANCEL_FAILED = "Cancellation failed: no active response found"
FAILURES: dict[object, str] = {  # the engine's codes to the protocol's; by command where that matters
    "no_active_reply": "response_cancel_not_active",
    "already_replying": "conversation_already_has_active_response",
    "empty_audio": "input_audio_buffer_commit_empty",
    "item_exists": "item_create_invalid_item_id",
    ("item_not_found", m.DeleteItem): "item_delete_invalid_item_id",
    ("item_not_found", m.Truncate): "item_truncate_invalid_item_id",
    ("item_not_found", m.AddItem): "item_create_invalid_previous_item_id",
}


class Conversation:
    """Translates until its connection ends.

    Args:
        session: the engine's side.
        settings: what holds at the start; ``settings`` is what holds now.
        say: takes every event for the client, in order.
        sample_rate: of the engine's sound, in Hz.
        model: the name to show.
        expires_at: when the session ends at the latest, in seconds since 1970.
        max_uncommitted_s: of sound that a client may send without a commit where it leads the turns.
        clear_output: stops what plays, where the server plays the sound itself.
        updated: is given the settings whenever the client has changed them.
    """

    def __init__(
        self, session: SessionLike, settings: Settings, say: Callable[[JSON], None], *, sample_rate: int, model: str,
        expires_at: int = 0, max_uncommitted_s: float = 120.0, clear_output: Callable[[], None] | None = None,
        updated: Callable[[Settings], None] = lambda settings: None,
    ) -> None:  # fmt: skip
        self.session, self.settings, self.say = session, settings, say
        self.stamp = Stamp()
        self.errors = 0
        self.heard_s = 0.0  # of sound that the client sent, in all
        self._model, self._expires_at = model, expires_at
        self._max_uncommitted_s, self._uncommitted_s = max_uncommitted_s, 0.0
        self._clear_output, self._updated = clear_output, updated
        self._ears = Ears(settings.input_format)
        self._teller = Teller(self.stamp, say, sample_rate, lambda: self.settings)
        self._sent: deque[tuple[m.Command, str]] = deque(maxlen=UNANSWERED)

    def begin(self) -> None:
        """``session.created``."""
        self.say(self.stamp("session.created", session=self._session()))

    @property
    def replying(self) -> bool:
        """Whether a reply is under way."""
        return self._teller.reply is not None

    def fail(self, error: ProtocolError, about: str | None = None, kind: str = "") -> None:
        """Tell the client of an error; the one place where errors become events."""
        self.errors += 1
        self.say(error_event(self.stamp, error, about, kind))

    # From the client.

    def receive(self, message: str | bytes) -> None:
        """A message of the client; whatever is wrong with it is answered, never raised."""
        about = None
        try:
            fields = c.parse(message)
            about = c.event_id_of(fields)
            self._obey(c.read(fields), about)
        except ProtocolError as error:
            self.fail(error, about)

    def _obey(self, event: c.ClientEvent, about: str | None) -> None:
        match event:
            case c.UpdateSession(session=session):
                self._update(session)
            case c.AppendAudio(sound=sound):
                self._append(sound)
            case c.CommitBuffer():
                self._commit(about)
            case c.ClearBuffer():
                self._ears, self._uncommitted_s = Ears(self.settings.input_format), 0.0
                self._push(m.ClearAudio(), about)
                self.say(self.stamp("input_audio_buffer.cleared"))
            case c.CreateItem():
                self._create_item(event, about)
            case c.RetrieveItem(item_id=item_id):
                self._retrieve(item_id)
            case c.DeleteItem(item_id=item_id):
                self._push(m.DeleteItem(item_id=item_id), about)
            case c.TruncateItem(item_id=item_id, audio_end_ms=end):
                self._push(m.Truncate(item_id=item_id, audio_end_ms=end), about)
            case c.CreateResponse():
                self._respond(event, about)
            case c.CancelResponse(response_id=response_id):
                self._cancel(response_id, about)
            case c.ClearOutput():
                self._clear()

    def _push(self, command: m.Command, about: str | None) -> None:
        if about is not None:
            self._sent.append((command, about))
        self.session.push(command)

    def _update(self, session: Fields) -> None:
        settings = self.settings.updated(session)
        if settings.input_format != self.settings.input_format:
            self._ears = Ears(settings.input_format)
        self.settings = settings
        self._updated(settings)
        self._push(m.Configure(config=settings.config()), None)
        self.say(self.stamp("session.updated", session=self._session()))

    def _append(self, sound: bytes) -> None:
        self.hear(self._ears.hear(sound))

    def hear(self, waveform: NDArray[np.float32]) -> None:
        """The client's sound goes on: float32 [S] at 16 kHz.

        Raises:
            ProtocolError: the client leads the turns, and has not committed for too long.
        """
        self.heard_s += len(waveform) / HEARD_RATE
        if self.settings.turn_detection is None:
            self._uncommitted_s += len(waveform) / HEARD_RATE
            if self._uncommitted_s > self._max_uncommitted_s:
                raise ProtocolError(
                    f"audio: expected a commit within {self._max_uncommitted_s:g} s of sound, got none; "
                    "what was sent now is dropped: commit or clear the buffer",
                    "input_audio_buffer_full", "audio",
                )  # fmt: skip
        if len(waveform):
            self._push(m.Append(waveform=waveform), None)

    def _commit(self, about: str | None) -> None:
        rest = self._ears.finish()
        if len(rest):
            self._push(m.Append(waveform=rest), None)
        self._push(m.Commit(), about)

    def _create_item(self, event: c.CreateItem, about: str | None) -> None:
        new = read_item(event.item, f"item_{secrets.token_hex(10)}")
        if new.item.id in self._teller.known:
            raise ProtocolError(
                f"item.id: expected a new id, got {shown(new.item.id)}, which is in use; leave it out to be given one",
                "item_create_invalid_item_id", "item.id",
            )  # fmt: skip
        waveform = None if new.sound is None else self._ears.whole(new.sound)
        self.heard_s += 0 if waveform is None else len(waveform) / HEARD_RATE
        self._teller.created.add(new.item.id)
        self._push(m.AddItem(item=new.item, previous_item_id=event.previous_item_id, waveform=waveform), about)

    def _retrieve(self, item_id: str) -> None:
        known = self._teller.known.get(item_id)
        if known is None:
            raise ProtocolError(
                f"item_id: expected the id of an item of this conversation, got {shown(item_id)}",
                "item_retrieve_invalid_item_id", "item_id",
            )  # fmt: skip
        self.say(self.stamp("conversation.item.retrieved", item=known.rendered()))

    def _respond(self, event: c.CreateResponse, about: str | None) -> None:
        response_id = f"resp_{secrets.token_hex(10)}"
        self._teller.asked[response_id] = event
        command = m.Respond(
            response_id=response_id, instructions=event.instructions, output=event.output,
            max_output_tokens=event.max_output_tokens, tools=event.tools, tool_choice=event.tool_choice,
            in_conversation=event.in_conversation,
        )  # fmt: skip
        self._push(command, about)

    def _cancel(self, response_id: str | None, about: str | None) -> None:
        if response_id is not None and not self._teller.is_under_way(response_id):
            raise ProtocolError(
                f"{CANCEL_FAILED} by the id {shown(response_id)}", "response_cancel_not_active", "response_id"
            )
        self._push(m.Cancel(), about)

    def _clear(self) -> None:
        if self._clear_output is None:
            raise ProtocolError(
                "output_audio_buffer.clear: expected only over WebRTC, where the server plays the sound; "
                "stop your playback and send conversation.item.truncate",
                "unsupported_event", "type",
            )  # fmt: skip
        self._clear_output()
        self.say(self.stamp("output_audio_buffer.cleared"))

    # From the engine.

    def tell(self, event: m.SessionEvent) -> None:
        """An event of the engine's session."""
        if isinstance(event, m.Committed):
            self._uncommitted_s = 0.0
        if isinstance(event, m.Failed):
            self._failed(event)
        else:
            self._teller.tell(event)

    def _failed(self, event: m.Failed) -> None:
        about = next((about for command, about in self._sent if command is event.command), None)
        if isinstance(event.command, m.Respond):
            self._teller.asked.pop(event.command.response_id or "", None)
        elif isinstance(event.command, m.AddItem):
            self._teller.created.discard(event.command.item.id)
        code = FAILURES.get((event.code, type(event.command))) or FAILURES.get(event.code, event.code)
        message = CANCEL_FAILED if code == "response_cancel_not_active" else event.message
        kind = "server_error" if event.command is None else ""
        self.fail(ProtocolError(message, code), about, kind)

    def _session(self) -> JSON:
        return self.settings.rendered(session_id=self.session.id, model=self._model, expires_at=self._expires_at)

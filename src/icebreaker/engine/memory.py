"""What a conversation's LLM should have read: its items, in the keys that ``device`` compares. Runs no model.

Speech is remembered as the tokens of a second pass, or where there is none as the vectors the ears made of it, an
answer as the tokens that were drawn and the part of them that was heard. So the context can be built anew at any time,
exactly as it was lived.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from icebreaker.engine.conversation import Conversation, Entry, Refused
from icebreaker.engine.device import Device
from icebreaker.engine.keys import PROMPTS, blob_keys
from icebreaker.errors import CheckpointError
from icebreaker.models.chat_layout import ChatLayout, FunctionCall, Message
from icebreaker.text.heard import SpokenSegment, heard_tokens

__all__ = ["Memory", "Remembered"]

MAX_ITEMS = 2000
KEPT_SHARE = 0.75  # of what the LLM reads well is left when old turns are forgotten for it
OPENING_SHARE = 0.875  # of it may be taken where speech begins: nobody waits yet, and there will be a question
NUDGE = "(The user is silent.)"  # stands for the user's turn where an idle time-out makes the assistant speak


@dataclass(frozen=True)
class Remembered(Entry):
    """An item, and what the model has of it.

    Attributes:
        blob: of the speech's vectors; 0: not spoken.
        tokens: of an answer, all that were drawn; of speech, those of a second pass.
        heard: how many of them count.
        spans: where their sound lies.
        forgotten: trimmed from what the model reads; the item itself stays.
    """

    blob: int = 0
    tokens: tuple[int, ...] = ()
    heard: int = 0
    spans: tuple[SpokenSegment, ...] = ()
    forgotten: bool = False


class Memory:
    """The items of one session and how they read."""

    def __init__(self, layout: ChatLayout, device: Device) -> None:
        self.layout, self.capacity = layout, device.capacity
        self.reads_well = device.dialogue.settings.context_positions or device.capacity
        self.prompts = 0 if device.prompts is None else len(device.prompts)  # trained vectors in front of speech
        self.device = device.llm.embedding.weight.device
        self.conversation = Conversation()
        self.blobs: dict[int, Tensor] = {}
        self._last_blob = PROMPTS

    def new_blob(self) -> int:
        """A number for the vectors of some speech."""
        self._last_blob += 1
        return self._last_blob

    def find(self, item_id: str) -> Remembered:
        """The entry of an item."""
        entry = self.conversation.find(item_id)
        assert isinstance(entry, Remembered)
        return entry

    def add(self, entry: Remembered, after: str | None = None) -> str | None:
        """Put an entry in; returns the id before it.

        Raises:
            Refused: see ``Conversation.add``, or there are too many items.
        """
        if len(self.conversation) >= MAX_ITEMS:
            raise Refused("conversation_full", f"a conversation holds {MAX_ITEMS} items; delete some, or start anew")
        return self.conversation.add(entry, after)

    def delete(self, item_id: str) -> None:
        """Take an item out for good."""
        entry = self.conversation.delete(item_id)
        assert isinstance(entry, Remembered)
        self.blobs.pop(entry.blob, None)

    def set_spans(self, item_id: str, spans: tuple[SpokenSegment, ...]) -> None:
        """Of an answer that is remembered, more is known of where its sound lies."""
        if item_id in self.conversation and (entry := self.find(item_id)).spans:
            self.conversation.replace(replace(entry, spans=spans))

    def set_heard(self, item_id: str, played_samples: int) -> Remembered:
        """Of an answer, what was heard when ``played_samples`` of its sound were played."""
        entry = self.find(item_id)
        heard = heard_tokens(entry.spans, played_samples) if entry.spans else len(entry.tokens)
        text = str(self.layout.tokenizer.decode(entry.tokens[:heard], skip_special_tokens=True)).strip()
        status = entry.item.status if heard == len(entry.tokens) else "incomplete"
        entry = replace(entry, heard=heard, item=replace(entry.item, text=text, status=status))
        self.conversation.replace(entry)
        return entry

    def reading(
        self, system: str, tools: Sequence[dict[str, Any]] = (), *, room: int, opening: bool = False,
        nudge: bool = False, forget: bool = True,
    ) -> list[int]:  # fmt: skip
        """Keys of the whole conversation up to where the answer begins, with ``room`` left after it.

        Where the LLM reads well only so much (``context_positions``), old turns are forgotten, too; since what is left
        has to be read anew, not one by one.

        Args:
            system: the system prompt; empty: what the chat template does without one.
            tools: as the chat template expects them.
            room: positions to leave free: the oldest turns are forgotten until they are.
            opening: up to where the user's speech begins instead.
            nudge: after a silence of the user's.
            forget: whether old turns may be forgotten for that.

        Raises:
            Refused: even without any history it does not fit, or the chat template does not take it.
        """
        keys = self._keys(system, tools, opening=opening, nudge=nudge)
        if forget and len(keys) > self.reads_well * (OPENING_SHARE if opening else 1):
            while len(keys) > self.reads_well * KEPT_SHARE and self._forget_oldest_turn():
                keys = self._keys(system, tools, opening=opening, nudge=nudge)
        while len(keys) + room > self.capacity:
            if not forget or not self._forget_oldest_turn():
                raise Refused(
                    "conversation_full",
                    f"instructions, tools and the newest turn take {len(keys)} positions and {room} are needed "
                    f"beside them, but a session has {self.capacity}; shorten them, or allow longer sessions",
                )
            keys = self._keys(system, tools, opening=opening, nudge=nudge)
        return keys

    def _keys(self, system: str, tools: Sequence[dict[str, Any]], *, opening: bool, nudge: bool) -> list[int]:
        holes: list[list[int]] = []
        messages = [Message("system", (system,))] if system else []
        for entry in self.conversation:
            if isinstance(entry, Remembered) and not entry.forgotten:
                messages += self._message(entry, holes)
        if opening:
            messages.append(Message("user", (len(holes),)))
        elif nudge:
            messages.append(Message("user", (NUDGE,)))
        try:
            pieces = self.layout.pieces(messages, tools)
        except CheckpointError as error:
            raise Refused("invalid", f"{error}; delete or move the item that it does not take") from error
        keys: list[int] = []
        for piece in pieces:
            if not isinstance(piece, int):
                keys += piece
            elif piece == len(holes):
                return keys + blob_keys(PROMPTS, 0, self.prompts)
            else:
                keys += holes[piece]
        return keys

    def _message(self, entry: Remembered, holes: list[list[int]]) -> list[Message]:
        item = entry.item
        if item.kind == "function_call":
            return [Message("assistant", (), (FunctionCall(item.call_id, item.name, item.arguments),))]
        if item.kind == "function_call_output":
            return [Message("tool", (item.text,), call_id=item.call_id)]
        role = item.role or "user"
        if entry.blob:
            vectors = blob_keys(entry.blob, 0, len(self.blobs[entry.blob]))
            holes.append(blob_keys(PROMPTS, 0, self.prompts) + vectors)
        elif entry.tokens:
            if not entry.heard:
                return []  # nothing of it was heard: it was never said
            holes.append(list(entry.tokens[: entry.heard]))
        else:
            return [Message(role, (item.text,))] if item.text else []
        return [Message(role, (len(holes) - 1,))]

    def _forget_oldest_turn(self) -> bool:
        """Up to the next message of the user's; the system's stay, and so does the newest turn."""
        entries = [each for each in self.conversation if isinstance(each, Remembered) and not each.forgotten]
        spoken = [each for each in entries if each.item.role != "system"]
        starts = [i for i, each in enumerate(spoken) if each.item.role == "user"]
        if not starts or starts[-1] == 0:
            return False
        for entry in spoken[: next(start for start in starts if start > 0)]:
            self.conversation.replace(replace(entry, forgotten=True, blob=0))
            self.blobs.pop(entry.blob, None)
        return True

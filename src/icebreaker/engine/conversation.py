"""The items of a conversation, in order. Knows no model, audio or clock."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace

from icebreaker.engine.messages import Item

__all__ = ["Conversation", "Entry", "Refused"]

ROOT = "root"  # as ``previous_item_id``: in front of everything


class Refused(Exception):
    """A command that cannot be carried out; becomes a ``Failed`` event."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Entry:
    """One item and what an engine remembers with it; engines add to it by inheritance."""

    item: Item


class Conversation:
    """Items by position and by id."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, item_id: object) -> bool:
        return any(entry.item.id == item_id for entry in self._entries)

    @property
    def items(self) -> tuple[Item, ...]:
        """All items in order."""
        return tuple(entry.item for entry in self._entries)

    @property
    def last_id(self) -> str | None:
        """Id of the newest item."""
        return self._entries[-1].item.id if self._entries else None

    def find(self, item_id: str) -> Entry:
        """The entry of an item.

        Raises:
            Refused: there is none.
        """
        return self._entries[self._index(item_id)]

    def previous_id(self, item_id: str) -> str | None:
        """Id of the item before ``item_id``; None where that is the first."""
        index = self._index(item_id)
        return self._entries[index - 1].item.id if index else None

    def add(self, entry: Entry, after: str | None = None) -> str | None:
        """Put an entry after the item ``after`` (None: at the end; ``"root"``: first); returns the item before it.

        Raises:
            Refused: the id is taken, or there is no item ``after``.
        """
        if entry.item.id in self:
            raise Refused(
                "item_exists", f"expected a new item id, got {entry.item.id!r}, which is in use; leave it out"
            )
        index = len(self._entries) if after is None else 0 if after == ROOT else self._index(after) + 1
        self._entries.insert(index, entry)
        return self.previous_id(entry.item.id)

    def replace(self, entry: Entry) -> None:
        """Put ``entry`` in the place of the one with its id."""
        self._entries[self._index(entry.item.id)] = entry

    def change(self, item_id: str, **changes: object) -> Item:
        """Change fields of an item; returns it."""
        entry = self.find(item_id)
        item = replace(entry.item, **changes)  # type: ignore[arg-type]
        self.replace(replace(entry, item=item))
        return item

    def delete(self, item_id: str) -> Entry:
        """Take an entry out."""
        return self._entries.pop(self._index(item_id))

    @staticmethod
    def new_id(kind: str = "item") -> str:
        """An id that nobody has."""
        return f"{kind}_{secrets.token_hex(10)}"

    def _index(self, item_id: str) -> int:
        for index, entry in enumerate(self._entries):
            if entry.item.id == item_id:
                return index
        raise Refused("item_not_found", f"expected the id of an item of this conversation, got {item_id[:80]!r}")

"""Reading a JSON object field by field; every error names the field, what was expected and what came."""

from collections.abc import Collection
from typing import Any

from icebreaker.errors import ProtocolError

__all__ = ["JSON", "Fields", "shown"]

JSON = dict[str, Any]
LONGEST_SHOWN = 60  # characters of a wrong value in an error message
LONGEST_ID = 512


class Fields:
    """One JSON object of a client's event. ``null`` counts as left out, unless ``is_null`` is asked.

    Args:
        value: what should be an object.
        path: where it stands in the event, such as ``session.audio``; empty for the event itself.

    Raises:
        ProtocolError: ``value`` is no object; so does every method for a field that is missing or wrong.
    """

    def __init__(self, value: Any, path: str = "") -> None:
        if not isinstance(value, dict):
            raise wrong_type(path or "the event", "an object", value)
        self.value: JSON = value
        self.path = path

    def __contains__(self, name: object) -> bool:
        return name in self.value

    def is_null(self, name: str) -> bool:
        """Whether the field is there and ``null``."""
        return name in self.value and self.value[name] is None

    def at(self, name: str) -> str:
        """The path of a field."""
        return f"{self.path}.{name}" if self.path else name

    def raw(self, name: str) -> Any:
        """A field that may be anything; None if left out."""
        return self.value.get(name)

    def text(self, name: str, *, longest: int | None = None) -> str | None:
        """A string, or None."""
        value = self.value.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise wrong_type(self.at(name), "a string", value)
        if longest is not None and len(value) > longest:
            raise self.wrong(name, f"at most {longest} characters", f"{len(value)} characters")
        return value

    def required_text(self, name: str, *, longest: int | None = None) -> str:
        """A string that has to be there."""
        text = self.text(name, longest=longest)
        if text is None:
            raise self.missing(name, "a string")
        return text

    def id(self, name: str) -> str | None:
        """A non-empty id, or None."""
        text = self.text(name, longest=LONGEST_ID)
        if text == "":
            raise self.wrong(name, "a non-empty id", '""')
        return text

    def required_id(self, name: str) -> str:
        """An id that has to be there."""
        text = self.id(name)
        if text is None:
            raise self.missing(name, "an id")
        return text

    def choice(self, name: str, choices: Collection[str]) -> str | None:
        """One of ``choices``, or None."""
        text = self.text(name)
        if text is not None and text not in choices:
            raise self.wrong(name, "one of " + ", ".join(choices), shown(text))
        return text

    def flag(self, name: str) -> bool | None:
        """True, false, or None."""
        value = self.value.get(name)
        if value is not None and not isinstance(value, bool):
            raise wrong_type(self.at(name), "true or false", value)
        return value

    def number(self, name: str, low: float, high: float) -> float | None:
        """A number from ``low`` to ``high``, or None."""
        value = self.value.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong_type(self.at(name), f"a number from {low:g} to {high:g}", value)
        if not low <= value <= high:
            raise self.wrong(name, f"a number from {low:g} to {high:g}", shown(value))
        return float(value)

    def integer(self, name: str, low: int, high: int) -> int | None:
        """A whole number from ``low`` to ``high``, or None; 3.0 is one."""
        value = self.number(name, low, high)
        if value is not None and value != int(value):
            raise self.wrong(name, f"a whole number from {low} to {high}", shown(value))
        return None if value is None else int(value)

    def object(self, name: str) -> "Fields | None":
        """An object, or None."""
        value = self.value.get(name)
        return None if value is None else Fields(value, self.at(name))

    def required_object(self, name: str) -> "Fields":
        """An object that has to be there."""
        if self.value.get(name) is None:
            raise self.missing(name, "an object")
        return Fields(self.value[name], self.at(name))

    def array(self, name: str, *, longest: int = 128) -> list[Any] | None:
        """An array of at most ``longest`` entries, or None."""
        value = self.value.get(name)
        if value is None:
            return None
        if not isinstance(value, list):
            raise wrong_type(self.at(name), "an array", value)
        if len(value) > longest:
            raise self.wrong(name, f"at most {longest} entries", f"{len(value)}")
        return value

    def objects(self, name: str) -> "list[Fields] | None":
        """An array of objects, or None."""
        values = self.array(name)
        return None if values is None else [Fields(value, f"{self.at(name)}[{i}]") for i, value in enumerate(values)]

    def missing(self, name: str, expected: str) -> ProtocolError:
        """The error of a field that is not there."""
        return ProtocolError(
            f"missing {self.at(name)}: expected {expected}", "missing_required_parameter", self.at(name)
        )

    def wrong(self, name: str, expected: str, got: str) -> ProtocolError:
        """The error of a field with a wrong value."""
        return ProtocolError(f"{self.at(name)}: expected {expected}, got {got}", "invalid_value", self.at(name))


def wrong_type(path: str, expected: str, value: Any) -> ProtocolError:
    """The error of a value of another type."""
    return ProtocolError(f"{path}: expected {expected}, got {shown(value)}", "invalid_type", path)


def shown(value: Any) -> str:
    """A value in an error message: its type in words, and its beginning."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {str(value)[:LONGEST_SHOWN]}" if abs(value) < 1e300 else "a very large number"
        case str():
            cut = value if len(value) <= LONGEST_SHOWN else f"{value[:LONGEST_SHOWN]}..."
            return f'"{cut}"'
        case list():
            return f"an array of {len(value)}"
        case _:
            return "an object"

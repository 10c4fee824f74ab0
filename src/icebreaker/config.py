"""Frozen dataclasses from TOML, JSON or mappings, strictly. Knows nothing of what the values mean."""

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from icebreaker.errors import ConfigError

__all__ = ["from_mapping", "load_toml", "override", "to_mapping"]

T = TypeVar("T")


def from_mapping(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Build dataclass ``cls`` (nested ones too) from ``values``; ``where`` names the source in errors.

    Raises:
        ConfigError: an unknown or missing key, or a value of the wrong type.
    """
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(values.keys() - fields.keys()):
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}; valid keys are {', '.join(sorted(fields))}")
    required = {name for name, field in fields.items() if _is_required(field)}
    if missing := sorted(required - values.keys()):
        raise ConfigError(f"{where}: missing key {missing[0]!r}")
    built = {name: _convert(hints[name], value, f"{where}: {name}") for name, value in values.items()}
    try:
        return cls(**built)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def load_toml(path: Path, cls: type[T], overrides: Sequence[str] = ()) -> T:
    """Read a TOML file into ``cls``; each override is ``dotted.key=toml-value``.

    Raises:
        ConfigError: the file is missing or not TOML, or its content does not fit ``cls``.
    """
    try:
        values = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    return from_mapping(cls, override(values, overrides), str(path))


def override(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Apply ``dotted.key=toml-value`` strings to a copy of ``values``; a bare word counts as a string."""
    result = {key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    for text in overrides:
        key, found, literal = text.partition("=")
        if not found:
            raise ConfigError(f"override {text!r}: expected dotted.key=value")
        try:
            value = tomllib.loads(f"v = {literal}")["v"]
        except tomllib.TOMLDecodeError:
            value = literal
        *parents, leaf = key.split(".")
        target = result
        for name in parents:
            target = target.setdefault(name, {})
            if not isinstance(target, dict):
                raise ConfigError(f"override {text!r}: {name} is not a table")
        target[leaf] = value
    return result


def to_mapping(config: Any) -> dict[str, Any]:
    """The plain values of a configuration, ready for JSON."""
    return {
        field.name: to_mapping(value) if dataclasses.is_dataclass(value) else _plain(value)
        for field in dataclasses.fields(config)
        for value in [getattr(config, field.name)]
    }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return _convert_union(typing.get_args(hint), value, where)
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return from_mapping(hint, value, where)  # type: ignore[arg-type]
    if origin is tuple and isinstance(value, list | tuple):
        item = typing.get_args(hint)[0]
        return tuple(_convert(item, each, where) for each in value)
    if origin is typing.Literal:
        if value not in typing.get_args(hint):
            raise ConfigError(f"{where}: expected one of {typing.get_args(hint)}, got {value!r}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(value, origin or hint) or (isinstance(value, bool) and hint is int):
        raise ConfigError(f"{where}: expected {getattr(hint, '__name__', hint)}, got {value!r}")
    return value


def _convert_union(hints: tuple[Any, ...], value: Any, where: str) -> Any:
    errors = []
    for hint in hints:
        if hint is types.NoneType:
            if value is None:
                return None
            continue
        try:
            return _convert(hint, value, where)
        except ConfigError as error:
            errors.append(error)
    raise errors[-1]

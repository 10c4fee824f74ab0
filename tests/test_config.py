"""Configurations are strict: what is not known, missing or of the wrong type is named."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from icebreaker.config import from_mapping, load_toml, override, to_mapping
from icebreaker.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Inner:
    rates: tuple[int, ...] = (8, 5)
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True, kw_only=True)
class Outer:
    lr: float
    steps: int = 3
    path: Path | None = None
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be positive, got {self.steps}")


def test_round_trip() -> None:
    config = Outer(lr=0.1, path=Path("x"), inner=Inner(rates=(2,), kind="b"))
    assert from_mapping(Outer, to_mapping(config), "here") == config


def test_toml_with_overrides(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("lr = 1\n[inner]\nrates = [3, 4]\n")
    config = load_toml(path, Outer, ["steps=7", "inner.kind=b", "path=runs/x"])
    assert config == Outer(lr=1.0, steps=7, path=Path("runs/x"), inner=Inner(rates=(3, 4), kind="b"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": 1.0, "stpes": 2}, "here: unknown key 'stpes'; valid keys are inner, lr, path, steps"),
        ({}, "here: missing key 'lr'"),
        ({"lr": "fast"}, "here: lr: expected float, got 'fast'"),
        ({"lr": 1.0, "steps": True}, "here: steps: expected int, got True"),
        ({"lr": 1.0, "steps": 0}, "here: steps must be positive, got 0"),
        ({"lr": 1.0, "inner": {"kind": "c"}}, "here: inner: kind: expected one of"),
        ({"lr": 1.0, "inner": {"rates": [1, "x"]}}, "rates: expected int, got 'x'"),
    ],
)
def test_errors_name_the_key(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_mapping(Outer, values, "here")
    assert message in str(caught.value)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such configuration file"):
        load_toml(tmp_path / "none.toml", Outer)
    (tmp_path / "bad.toml").write_text("lr = = 1")
    with pytest.raises(ConfigError, match=r"bad.toml: not TOML"):
        load_toml(tmp_path / "bad.toml", Outer)
    with pytest.raises(ConfigError, match=r"expected dotted\.key=value"):
        override({}, ["lr"])

from pathlib import Path

import pytest

from icebreaker.cluster.plan import EnginePlan, ServePlan
from icebreaker.config import from_mapping
from icebreaker.errors import ConfigError


def test_a_plan_from_plain_values(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("one\n# not this\ntwo\n")
    values = {
        "engine": {"model": "scripted", "sessions": "/sessions", "slots": 4}, "server": {"drain_s": 5},
        "api_key_file": str(tmp_path / "keys"), "replicas": 2, "max_replicas": 3,
    }  # fmt: skip
    plan = from_mapping(ServePlan, values, "args")
    assert plan.engine == EnginePlan(model="scripted", sessions=Path("/sessions"), slots=4)
    assert plan.server_with_keys.api_keys == ("one", "two")
    assert plan.server_with_keys.drain_s == 5.0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"replicas": 3, "max_replicas": 2}, "expected 1 to max_replicas replicas"),
        ({"spare": 1.0}, "expected a spare share"),
        ({"engine": {"dtype": "int8"}}, "expected dtype float32, bfloat16, float16"),
        ({"replica": 3}, "unknown key 'replica'"),
    ],
)
def test_what_does_not_fit_is_said(values: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        from_mapping(ServePlan, values, "args")

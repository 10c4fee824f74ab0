import json
from pathlib import Path

import pytest

from icebreaker.text.rules import flushes_offline, flushes_server, post_process

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "freeze-omni-tiny" / "expected" / "text_rules.json").read_text()
)


@pytest.mark.parametrize(("text", "expected"), GOLDEN["post_process"])
def test_post_processing_is_the_official_one(text: str, expected: str) -> None:
    assert post_process(text) == expected


def test_there_are_all_golden_cases() -> None:
    assert len(GOLDEN["post_process"]) >= 36


def test_offline_rule_waits_at_a_decimal_point() -> None:
    assert flushes_offline(".", "It costs five")
    assert not flushes_offline(".", "It costs 3")
    assert not flushes_offline("", "Done.")
    assert not flushes_offline(",", "Well")


def test_server_rule_is_eager_until_a_packet_went_out_and_when_the_segment_is_long() -> None:
    assert flushes_server(",", "a b c", pending=4, packets_sent=0)
    assert not flushes_server(",", "a b c", pending=3, packets_sent=0)
    assert not flushes_server(",", "a b c", pending=19, packets_sent=1)
    assert flushes_server(",", "a b c", pending=20, packets_sent=1)

import json
import random
from pathlib import Path
from typing import Any

import pytest

from icebreaker.text.segment import Segment, Segmenter, SegmenterConfig

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "freeze-omni-tiny" / "expected" / "text_rules.json").read_text()
)
TEXTS = GOLDEN["cumulative_texts"]


def cumulate(pieces: list[str]) -> list[str]:
    return ["".join(pieces[: count + 1]) for count in range(len(pieces))]


def segments_of(config: SegmenterConfig, texts: list[str], packets_per_segment: int = 0) -> list[Segment]:
    segmenter = Segmenter(config)
    state, segments = segmenter.initial_state(), []
    for text in texts:
        new, state = segmenter.push(text, state, packets_per_segment * len(segments))
        segments += new
    return segments + segmenter.finish(texts[-1], state)


def early(pieces: list[str], **options: Any) -> list[str]:
    return [segment.text for segment in segments_of(SegmenterConfig(**options), cumulate(pieces))]


@pytest.mark.parametrize("name", sorted(GOLDEN["offline"]))
def test_offline_rule_cuts_as_the_official_script(name: str) -> None:
    golden = GOLDEN["offline"][name]
    segments = segments_of(SegmenterConfig(rule="official_offline"), TEXTS[name])
    got = [[each.text, len(each.ends), [*range(each.start + 1, each.stop + 1)]] for each in segments]
    if name == "single":  # the official script loses the text of a one-token reply and then fails
        assert got == [["Hi", 1, [1]]]
    elif golden["error"]:  # ... and fails where the second token ends in a full stop
        assert got == [["Hi.", 2, [1, 2]], [" ok.", 2, [3, 4]]]
    else:
        assert got == golden["flushes"]


@pytest.mark.parametrize(("section", "packets"), [("server", 1), ("server_zero_pieces", 0)])
@pytest.mark.parametrize("name", sorted(GOLDEN["server"]))
def test_server_rule_cuts_as_the_official_server(section: str, packets: int, name: str) -> None:
    segments = segments_of(SegmenterConfig(rule="official_server"), TEXTS[name], packets)
    got = [[each.text, len(each.ends), [*range(each.start + 1, each.stop + 1)]] for each in segments]
    if name == "single":
        assert got == [["Hi", 1, [1]]]
    else:
        assert got == [flush[:3] for flush in GOLDEN[section][name]["flushes"]]


def test_first_segment_leaves_after_four_tokens_at_a_word_boundary() -> None:
    pieces = ["The", " cap", "ital", " of", " Fra", "nce", " is", " Paris", ".", " It", " lies", " there", "."]
    assert early(pieces) == ["The capital of", " France is Paris.", " It lies there."]


def test_first_segment_never_splits_a_word() -> None:
    assert early(["An", "ti", "dis", "est", "ab", "lish", " it", "."]) == ["Antidisestablish", " it."]


def test_a_short_first_sentence_is_a_segment() -> None:
    assert early(["Yes", ".", " It", " is", " very", " warm", "."]) == ["Yes.", " It is very warm."]


def test_decimals_and_abbreviations_do_not_end_a_segment() -> None:
    pieces = ["Well", ",", " pi", " is", " about", " 3", ".", "14", " and", " Dr", ".", " Smith", " knows", ".", " Ok"]
    assert early(pieces, first_tokens=30) == ["Well, pi is about 3.14 and Dr. Smith knows.", " Ok"]
    assert early(["1", ".", " Open", " it", "."], first_tokens=30) == ["1. Open it."]


def test_several_marks_stay_together() -> None:
    pieces = ["What", " is", " that", "?", "!", ' "', "No", " way", '."', " I", " see", " it", "."]
    assert early(pieces, first_tokens=30) == ["What is that?!", ' "No way."', " I see it."]


def test_long_clauses_end_at_a_comma_and_endless_ones_anywhere() -> None:
    pieces = [" word"] * 13 + [","] + [" word"] * 30
    lengths = [len(each.ends) for each in segments_of(SegmenterConfig(max_tokens=20), cumulate(pieces))]
    assert lengths == [4, 20, 20]
    lengths = [
        len(each.ends) for each in segments_of(SegmenterConfig(first_tokens=16, max_tokens=16), cumulate(pieces))
    ]
    assert lengths == [14, 16, 14]
    lengths = [len(each.ends) for each in segments_of(SegmenterConfig(max_tokens=10), cumulate(["x"] * 50))]
    assert lengths == [20, 20, 10]


def test_text_without_spaces_has_word_boundaries() -> None:
    assert early(list("好的我们去公园吧。今天天气很好。")) == ["好的我们", "去公园吧。", "今天天气很好。"]


def test_an_incomplete_character_is_never_cut() -> None:
    texts = [
        "I",
        "I like",
        "I like the",
        "I like the \ufffd",
        "I like the \ufffd",
        "I like the 好",
        "I like the 好 one",
    ]
    segments = segments_of(SegmenterConfig(), texts)
    assert [each.text for each in segments] == ["I like the 好", " one"]
    assert [(each.start, each.stop) for each in segments] == [(0, 6), (6, 7)]


def test_broken_bytes_do_not_hold_the_reply_back_forever() -> None:
    texts = cumulate(["a", " b", "\ufffd", "\ufffd", "\ufffd", "\ufffd", " c", " d", " e", " f"])
    segmenter = Segmenter()
    state, emitted = segmenter.initial_state(), 0
    for text in texts:
        new, state = segmenter.push(text, state)
        emitted += len(new)
    assert emitted == 1


@pytest.mark.parametrize("rule", ["early", "official_offline", "official_server"])
def test_no_token_or_letter_is_lost_or_doubled(rule: Any) -> None:
    rng = random.Random(5)
    stock = ["a", " bc", ".", ",", "!", "?", " 3", "\n", "。", "好", "", " ", "\ufffd", ' "', "Dr", ":", "…"]
    for _ in range(300):
        texts = cumulate([rng.choice(stock) for _ in range(rng.randint(1, 60))])
        config = SegmenterConfig(rule=rule, first_tokens=rng.randint(1, 8), min_tokens=rng.randint(1, 6), max_tokens=9)
        segments = segments_of(config, texts, packets_per_segment=rng.randint(0, 1))
        assert "".join(each.text for each in segments) == texts[-1]
        assert [index for each in segments for index in range(each.start, each.stop)] == [*range(len(texts))]
        for each in segments:
            assert each.ends[-1] == len(each.text)
            assert list(each.ends) == sorted(each.ends)
            assert min(each.ends) >= 0


def test_impossible_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="first_tokens 50"):
        SegmenterConfig(first_tokens=50)

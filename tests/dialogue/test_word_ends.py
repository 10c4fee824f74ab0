"""Which words were said, by where the speech decoder looked."""

from dataclasses import replace

import numpy as np
import pytest
import soxr
import torch

from icebreaker.dialogue import Dialogue, Parts, speaking
from icebreaker.dialogue.state import DialogueState, Reply
from icebreaker.dialogue.word_ends import place_words, said_at
from icebreaker.errors import ConfigError
from icebreaker.evaluation.respond import say
from icebreaker.talking import load_dialogue

# "No, three." is four tokens; of ten codes the third and the seventh speak nothing.
SPOKEN, OFFSETS = "No, three.", [(0, 2), (2, 3), (3, 9), (9, 10)]
LOOKED = torch.zeros(10, 4)
LOOKED[:2, 0] = 0.9
LOOKED[3:6, 2] = 0.4
LOOKED[3:6, 3] = 0.4  # both are of "three."
LOOKED[7:9, 2] = 0.8
LOOKED[9, 3] = 0.8


def test_a_word_ends_with_the_last_code_that_looks_at_it() -> None:
    assert said_at(LOOKED, SPOKEN, OFFSETS, whole=True) == [2, 10]
    assert said_at(LOOKED, SPOKEN, OFFSETS, whole=False) == [2]  # the newest word may go on
    assert said_at(LOOKED[:3], SPOKEN, OFFSETS, whole=False) == []
    assert said_at(LOOKED[:4], SPOKEN, OFFSETS, whole=False) == [2]


def test_a_word_nobody_looked_at_is_said_with_its_neighbours() -> None:
    looked = torch.zeros(6, 3)
    looked[:2, 0] = looked[3:5, 2] = 1.0
    offsets = [(0, 1), (2, 3), (4, 5)]
    assert said_at(looked, "a b c", offsets, whole=True) == [2, 2, 6]
    assert said_at(looked, "a b c", offsets, whole=False) == [2, 2]
    assert said_at(looked[:3], "a b c", offsets, whole=True) == [3, 3, 3]
    assert said_at(torch.zeros(6, 3), "a b c", offsets, whole=False) == []


def test_looking_back_takes_nothing_back() -> None:
    looked = torch.zeros(6, 2)
    looked[:2, 0] = looked[2:4, 1] = looked[4:, 0] = 1.0
    assert said_at(looked, "a b", [(0, 1), (2, 3)], whole=True) == [6, 6]
    assert said_at(looked, "a b", [(0, 1), (2, 3)], whole=False) == [6]


def test_written_words_follow_the_spoken_ones() -> None:
    assert place_words("It is 3.", "It is three.", [4, 8, 20]) == [(2, 4), (5, 8), (8, 20)]
    assert place_words("It is 3.", "It is three.", [4]) == [(2, 4)]
    assert place_words("It is 21", "It is twenty one", [4, 8, 20, 30]) == [(2, 4), (5, 8), (8, 30)]
    assert place_words("It is 21", "It is twenty one", [4, 8, 20]) == [(2, 4), (5, 8)]
    assert place_words("21 and 3 o'clock", "twenty one and three o'clock", [1, 2, 3, 4, 5]) == [
        (2, 2), (6, 3), (8, 4), (16, 5),
    ]  # fmt: skip
    assert place_words("one two ...", "one two", [4, 8]) == [(3, 4), (7, 8), (11, 8)]
    assert place_words(" yes", "yes", [5]) == [(4, 5)]
    assert place_words("... yes", "yes", []) == []
    assert place_words("... yes", "yes", [5]) == [(3, 5), (7, 5)]
    assert place_words("", "", []) == []


def test_layers_that_are_not_there_are_refused(exact: Parts) -> None:
    with pytest.raises(ConfigError, match="alignment_layers: 9 is none of the speech decoder's layers 0 to"):
        Dialogue(replace(exact, settings=replace(exact.settings, alignment_layers=(0, 9))))


def test_mini_knows_when_it_has_said_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against forced alignment of its own sound by an independent recogniser."""
    dialogue, replies = load_dialogue("mini", None), list[Reply]()
    heard_next = speaking._heard_next

    def kept(state: DialogueState, index: int, new_samples: int) -> DialogueState:
        state = heard_next(state, index, new_samples)
        replies.append(state.rows[index].reply)
        return state

    monkeypatch.setattr(speaking, "_heard_next", kept)
    late, letters = [], []
    for text in ("The capital of Sweden is Stockholm.", "Seventeen comes before eighteen.", "A cow has four legs."):
        waveform = say(dialogue, text)
        (spoken,) = dialogue.speaker.spans(replies[-1], words=True)
        assert spoken.segment.text.strip() == text
        assert spoken.words is not None
        assert spoken.words[-1] == (len(spoken.segment.text), spoken.stop_sample)
        (cut,) = dialogue.speaker.spans(replies[2], words=True)
        assert cut.words is not None
        assert 0 < len(cut.words) < len(spoken.words)
        for (end, said), heard_s in zip(spoken.words, _aligned(text, waveform), strict=True):
            late.append(said / dialogue.sample_rate - heard_s)
            letters.append(end / len(text) * len(waveform) / dialogue.sample_rate - heard_s)
    assert np.median(np.abs(late)) < 0.05
    assert np.abs(late).mean() < np.abs(letters).mean()


def _aligned(text: str, waveform: np.ndarray) -> list[float]:
    """When each word ends, in seconds."""
    from pocketsphinx import Decoder

    decoder = Decoder(lm=None, loglevel="FATAL")
    decoder.set_align_text(text.lower().rstrip("."))
    at_16k = np.asarray(soxr.resample(waveform, 24_000, 16_000)).clip(-1, 1)
    decoder.start_utt()
    decoder.process_raw((at_16k * 32767).astype("<i2").tobytes(), full_utt=True)
    decoder.end_utt()
    return [(each.end_frame + 1) / 100 for each in decoder.seg() if each.word not in ("<sil>", "<s>", "</s>")]

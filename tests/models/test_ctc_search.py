"""The search finds what counting every path finds."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from icebreaker.models.ctc_search import Beam, CTCSearch, CTCSearchConfig
from icebreaker.models.ngram import NGram

BEGIN, END = 3, 4
LANGUAGE = NGram.counted([((0, 1), 3), ((1, 1, 2), 2), ((2,), 1)], vocabulary=3, order=2)
ALL = {"beam": 1000, "choices": 4, "least": -1e9, "within": 1e9}


def frames(seed: int, count: int = 5) -> NDArray[np.float32]:
    logits = np.random.default_rng(seed).normal(0, 1.5, (count, 4))
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def found(log_p: NDArray[np.float32], config: CTCSearchConfig) -> list[int]:
    search = CTCSearch(LANGUAGE, config)
    return list(search.best(search.advance(Beam(), log_p))[0])


def counted(log_p: NDArray[np.float32], weight: float, bonus: float) -> list[int]:
    """The best tokens by all 4 ** T paths."""
    chances: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(4), repeat=len(log_p)):
        said = tuple(choice - 1 for choice, _ in itertools.groupby(path) if choice)
        chances[said] = chances.get(said, 0) + math.exp(
            sum(float(row[choice]) for row, choice in zip(log_p, path, strict=True))
        )

    def score(said: tuple[int, ...]) -> float:
        row = (BEGIN, *said, END)
        liked = sum(float(LANGUAGE.log_p(row[:i], np.array([row[i]]))[0]) for i in range(1, len(row)))
        return math.log(chances[said]) + weight * liked + bonus * len(said)

    return list(max(chances, key=score))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("weight", "bonus"), [(0.0, 0.0), (0.8, 1.0)])
def test_the_best_of_all_paths_is_found(seed: int, weight: float, bonus: float) -> None:
    config = CTCSearchConfig(weight=weight, bonus=bonus, **ALL)
    assert found(frames(seed), config) == counted(frames(seed), weight, bonus)


def plainly(log_p: NDArray[np.float32], config: CTCSearchConfig) -> dict[tuple[int, ...], float]:
    """The beam of a search that scores every token after every prefix, and their scores."""
    beam = {(): (0.0, -math.inf)}
    said = {(): 0.0}

    def score(ids: tuple[int, ...]) -> float:
        return float(np.logaddexp(*beam[ids])) + said[ids]

    for row in log_p:
        grown: dict[tuple[int, ...], tuple[float, float]] = {}
        for ids, (blank, token) in beam.items():
            either = float(np.logaddexp(blank, token))
            for choice, chance in enumerate(row.tolist()):
                again = bool(ids) and ids[-1] == choice - 1
                ways = (
                    [(ids, 0, either + chance)]
                    if not choice
                    else [((*ids, choice - 1), 1, (blank if again else either) + chance)]
                )
                for end, kind, total in [*ways, *([(ids, 1, token + chance)] if again else [])]:
                    old = grown.get(end, (-math.inf, -math.inf))
                    grown[end] = tuple(np.logaddexp(old[k], total) if k == kind else old[k] for k in (0, 1))
        beam = grown
        for ids in beam:
            context = (BEGIN, *ids)
            liked = sum(float(LANGUAGE.log_p(context[:i], np.array([context[i]]))[0]) for i in range(1, len(context)))
            said[ids] = config.weight * liked + config.bonus * len(ids)
        beam = {ids: beam[ids] for ids in sorted(beam, key=score, reverse=True)[: config.beam]}
    return {ids: score(ids) for ids in beam}


@pytest.mark.parametrize("seed", range(12))
def test_what_is_not_asked_of_the_language_is_not_missed(seed: int) -> None:
    """A full beam and a window leave out only what could not have stayed."""
    log_p = frames(seed, 9)
    config = CTCSearchConfig(beam=5, choices=4, least=-1e9, within=1e9)
    there = {each.ids: each.score for each in CTCSearch(LANGUAGE, config).advance(Beam(), log_p).prefixes}
    assert there == pytest.approx(plainly(log_p, config))
    near = CTCSearch(LANGUAGE, replace(config, within=1.0)).advance(Beam(), log_p).prefixes
    assert all(each.score >= near[0].score - 1.0 for each in near)
    assert near[0].score <= max(there.values()) + 1e-6


def test_a_token_twice_needs_a_pause_between() -> None:
    sure = np.log(np.array([[1, 97, 1, 1], [97, 1, 1, 1], [1, 97, 1, 1], [1, 97, 1, 1]], np.float32) / 100)
    config = CTCSearchConfig(weight=0.0, bonus=0.0)
    assert found(sure, config) == [0, 0]
    assert found(sure[[0, 2, 3]], config) == [0]


def test_the_language_decides_where_the_ears_do_not() -> None:
    alike = np.log(np.array([[2, 94, 2, 2], [2, 2, 49, 47]], np.float32) / 100)
    other = np.log(np.array([[2, 94, 2, 2], [2, 2, 47, 49]], np.float32) / 100)
    search = CTCSearchConfig(weight=1.0, bonus=1.0)
    for heard in (alike, other):
        assert found(heard, search) == [0, 1], "after 0 users say 1"
    deaf = CTCSearchConfig(weight=0.0, bonus=0.0)
    assert found(other, deaf) == [0, 2]


def test_silence_says_nothing_and_no_beam_is_refused() -> None:
    silence = np.log(np.array([[97, 1, 1, 1]] * 6, np.float32) / 100)
    assert found(silence, CTCSearchConfig()) == []
    with pytest.raises(ValueError, match="beam and choices"):
        CTCSearchConfig(beam=0)


@pytest.mark.parametrize("seed", range(4))
def test_it_stands_the_same_however_the_frames_come(seed: int) -> None:
    search = CTCSearch(LANGUAGE, CTCSearchConfig(beam=4))
    whole, pieces = search.advance(Beam(), frames(seed, 12)), Beam()
    for start, stop in ((0, 1), (1, 7), (7, 7), (7, 12)):
        pieces = search.advance(pieces, frames(seed, 12)[start:stop])
    assert pieces == whole
    assert whole.frames == 12


def test_the_chance_of_an_end_is_the_languages() -> None:
    search = CTCSearch(LANGUAGE, CTCSearchConfig(weight=1.0, bonus=1.0))
    sure = np.log(np.array([[1, 97, 1, 1], [1, 1, 97, 1]], np.float32) / 100)
    for count, said in ((1, (0,)), (2, (0, 1))):
        ids, end = search.best(search.advance(Beam(), sure[:count]))
        assert ids == said
        assert end == pytest.approx(float(LANGUAGE.log_p(said, np.array([END]))[0]))

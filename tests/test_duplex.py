import json
from pathlib import Path

import pytest

from icebreaker.duplex import (
    Action,
    Cancelled,
    CancelResponse,
    ChunkHeard,
    Committed,
    DropUtterance,
    DuplexConfig,
    Event,
    OpenUtterance,
    ReplyFinished,
    SpeechStarted,
    SpeechStopped,
    StartResponse,
    Turn,
    UserInterrupted,
    Verdict,
    judge,
    transition,
)

GOLDEN = Path(__file__).parent / "golden" / "freeze-omni-tiny" / "expected"
L, H, S, O = Turn.LISTENING, Turn.HEARING, Turn.SPEAKING, Turn.OVERLAP  # noqa: E741
STARTED, STOPPED, FINISHED = SpeechStarted(), SpeechStopped(), ReplyFinished(at_ms=900, played_ms=700)
CONTINUE, TAKE, IGNORE = (ChunkHeard(at_ms=500, played_ms=320, verdict=verdict) for verdict in Verdict)
COMMITTED, INTERRUPTED, CANCELLED = Committed(played_ms=320), UserInterrupted(played_ms=320), Cancelled(played_ms=320)
OPEN, START, DROP, STOP = OpenUtterance(), StartResponse(), DropUtterance(), CancelResponse(320)
TABLE: dict[tuple[Turn, Event], tuple[Turn, list[Action]]] = {
    (L, STARTED): (H, [OPEN]), (H, STARTED): (H, []), (S, STARTED): (O, [OPEN]), (O, STARTED): (O, []),
    (L, STOPPED): (L, []), (H, STOPPED): (L, [DROP]), (S, STOPPED): (S, []), (O, STOPPED): (S, [DROP]),
    (L, CONTINUE): (L, []), (H, CONTINUE): (H, []), (S, CONTINUE): (S, []), (O, CONTINUE): (O, []),
    (L, TAKE): (L, []), (H, TAKE): (S, [START]), (S, TAKE): (S, []), (O, TAKE): (S, [STOP, START]),
    (L, IGNORE): (L, []), (H, IGNORE): (L, [DROP]), (S, IGNORE): (S, []), (O, IGNORE): (S, [DROP]),
    (L, COMMITTED): (L, []), (H, COMMITTED): (S, [START]), (S, COMMITTED): (S, []), (O, COMMITTED): (S, [STOP, START]),
    (L, CANCELLED): (L, []), (H, CANCELLED): (L, [DROP]), (S, CANCELLED): (L, [STOP]),
    (O, CANCELLED): (L, [STOP, DROP]),
    (L, INTERRUPTED): (L, []), (H, INTERRUPTED): (H, []), (S, INTERRUPTED): (L, [STOP]), (O, INTERRUPTED): (H, [STOP]),
    (L, FINISHED): (L, []), (H, FINISHED): (H, []), (S, FINISHED): (L, []), (O, FINISHED): (H, []),
}  # fmt: skip


@pytest.mark.parametrize(("turn", "event"), list(TABLE))
def test_the_whole_table(turn: Turn, event: Event) -> None:
    assert transition(turn, event) == TABLE[turn, event]


def test_the_table_above_is_complete() -> None:
    kinds = {type(event) for _, event in TABLE}
    assert kinds == set(Event.__subclasses__())
    assert len(TABLE) == len(Turn) * (len(kinds) + 2)  # a chunk has three verdicts


def test_actions_keep_the_books_straight() -> None:
    """Whatever happens: an utterance opens only when none is open, a response starts or stops only as it can."""
    for (turn, _), (after, actions) in TABLE.items():
        is_open, is_speaking = turn in (H, O), turn in (S, O)
        for action in actions:
            match action:
                case OpenUtterance():
                    assert not is_open
                    is_open = True
                case DropUtterance():
                    assert is_open
                    is_open = False
                case StartResponse():
                    assert is_open
                    assert not is_speaking
                    is_open, is_speaking = False, True
                case CancelResponse():
                    assert is_speaking
                    is_speaking = False
        assert is_open == (after in (H, O))
        if not actions:
            continue
        assert is_speaking == (after in (S, O))


def test_silence_is_answered_on_request() -> None:
    config = DuplexConfig(answer_silence=True)
    assert transition(H, STOPPED, config) == (S, [START])
    assert transition(O, SpeechStopped(played_ms=320), config) == (S, [STOP, START])


def test_without_barge_in_the_assistant_is_not_disturbed_by_speech() -> None:
    config = DuplexConfig(barge_in=False)
    assert transition(S, STARTED, config) == (S, [])
    assert transition(S, INTERRUPTED, config) == (L, [STOP])


@pytest.mark.parametrize(
    ("probabilities", "verdict"),
    [
        ((0.9, 0.05, 0.05), Verdict.CONTINUE),
        ((0.3, 0.3, 0.4), Verdict.CONTINUE),
        ((0.0, 0.5, 0.5), Verdict.CONTINUE),
        ((0.2, 0.6, 0.2), Verdict.TAKE),
        ((0.2, 0.2, 0.6), Verdict.IGNORE),
    ],
)
def test_a_verdict_needs_more_than_half(probabilities: tuple[float, float, float], verdict: Verdict) -> None:
    assert judge(probabilities) == verdict


def test_ignoring_goes_before_taking() -> None:
    config = DuplexConfig(take_threshold=0.3, ignore_threshold=0.3)
    assert judge((0.1, 0.5, 0.4), config) == Verdict.IGNORE


def test_thresholds_are_probabilities() -> None:
    with pytest.raises(ValueError, match=r"take 1\.5"):
        DuplexConfig(take_threshold=1.5)


def test_the_official_server_decides_the_same_on_a_recorded_conversation() -> None:
    """e2e.json: per fed chunk the official status (cl, ss or el) and whether the dialogue stays open."""
    duplex = json.loads((GOLDEN / "e2e.json").read_text())["duplex"]
    statuses = {"cl": Verdict.CONTINUE, "ss": Verdict.TAKE, "el": Verdict.IGNORE}
    turn, actions = Turn.LISTENING, []
    for chunk in duplex["trace"]:
        if chunk["fed"] == "history0":
            turn, new = transition(turn, SpeechStarted())
            actions += new
        verdict = judge(tuple(chunk["state_probs"]))
        assert verdict == statuses[chunk["stat"]]
        turn, new = transition(turn, ChunkHeard(verdict=verdict))
        actions += new
        assert (turn in (Turn.HEARING, Turn.OVERLAP)) == chunk["in_dialog_after"]
    assert actions == [OPEN, START, OPEN, DROP]
    assert actions.count(START) == len(duplex["generate_calls"])

"""Turn taking. Knows nothing of audio, models or sockets; times arrive in events, nobody reads the clock.

Two things happen at once in a full-duplex conversation: the user may be speaking, and the assistant may be. Their four
combinations are the turns::

                     user silent    user speaks
    assistant silent   LISTENING  ->  HEARING
    assistant speaks   SPEAKING   ->  OVERLAP

The language model's turn head judges every chunk that is heard (arXiv:2411.00774, state prediction): the user goes on,
the assistant takes the turn, or what was said calls for no answer. What is not answered leaves no trace.
"""

from dataclasses import dataclass
from enum import Enum

__all__ = [
    "Action",
    "CancelResponse",
    "Cancelled",
    "ChunkHeard",
    "Committed",
    "DropUtterance",
    "DuplexConfig",
    "Event",
    "OpenUtterance",
    "ReplyFinished",
    "SpeechStarted",
    "SpeechStopped",
    "StartResponse",
    "Turn",
    "UserInterrupted",
    "Verdict",
    "judge",
    "transition",
]


class Turn(Enum):
    """Who is speaking."""

    LISTENING = "listening"  # nobody
    HEARING = "hearing"  # the user
    SPEAKING = "speaking"  # the assistant
    OVERLAP = "overlap"  # both: the assistant goes on until the turn head decides


class Verdict(Enum):
    """What one chunk of an utterance means; the value is its class in the turn head."""

    CONTINUE = 0  # the user is not done
    TAKE = 1  # the assistant's turn, also when it is still speaking: barge-in
    IGNORE = 2  # a backchannel or noise: no answer is called for


@dataclass(frozen=True, kw_only=True)
class DuplexConfig:
    """How willing the assistant is to speak. The defaults are the official server's.

    Attributes:
        take_threshold: probability above which the assistant takes the turn.
        ignore_threshold: probability above which an utterance is dropped; this is looked at first.
        answer_silence: when speech stops without a verdict, answer (true) or drop the utterance (false, official).
        barge_in: whether speech is listened to while the assistant speaks.
    """

    take_threshold: float = 0.5
    ignore_threshold: float = 0.5
    answer_silence: bool = False
    barge_in: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.take_threshold <= 1 or not 0 <= self.ignore_threshold <= 1:
            raise ValueError(
                f"thresholds are probabilities, got take {self.take_threshold} and ignore {self.ignore_threshold}"
            )


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened.

    Attributes:
        at_ms: session time.
        played_ms: how much of the current reply the user has heard by then; 0 without one.
    """

    at_ms: float = 0.0
    played_ms: float = 0.0


class SpeechStarted(Event):
    """The voice detector, or a client that detects speech itself, reports a beginning."""


class SpeechStopped(Event):
    """The voice detector reports a long silence."""


@dataclass(frozen=True, kw_only=True)
class ChunkHeard(Event):
    """A chunk of the open utterance went through the language model.

    Attributes:
        verdict: from ``judge``.
    """

    verdict: Verdict


class Committed(Event):
    """The client says that the user is done: push-to-talk released, or a button."""


class Cancelled(Event):
    """The client wants no reply, neither the current one nor one to what is being said."""


class UserInterrupted(Event):
    """The client stopped the playback and may or may not send speech."""


class ReplyFinished(Event):
    """The last sample of the reply was played."""


@dataclass(frozen=True)
class OpenUtterance:
    """Branch off the conversation and start to listen on the branch."""


@dataclass(frozen=True)
class StartResponse:
    """Make the branch the conversation and answer it."""


@dataclass(frozen=True)
class CancelResponse:
    """Stop the reply; of it, the conversation keeps what was heard in ``played_ms``."""

    played_ms: float


@dataclass(frozen=True)
class DropUtterance:
    """Forget the branch."""


Action = OpenUtterance | StartResponse | CancelResponse | DropUtterance
OFFICIAL = DuplexConfig()


def judge(probabilities: tuple[float, float, float], config: DuplexConfig = OFFICIAL) -> Verdict:
    """The verdict on a chunk from the turn head's probabilities (continue, take, ignore)."""
    _, take, ignore = probabilities
    if ignore > config.ignore_threshold:
        return Verdict.IGNORE
    return Verdict.TAKE if take > config.take_threshold else Verdict.CONTINUE


def transition(turn: Turn, event: Event, config: DuplexConfig = OFFICIAL) -> tuple[Turn, list[Action]]:
    """The next turn and what is to be done, in order. An event that means nothing in a turn changes nothing."""
    stop = CancelResponse(event.played_ms)
    match turn, _end_of_utterance(event, config):
        # Nobody speaks.
        case Turn.LISTENING, SpeechStarted():
            return Turn.HEARING, [OpenUtterance()]
        # The user speaks.
        case Turn.HEARING, Verdict.TAKE:
            return Turn.SPEAKING, [StartResponse()]
        case Turn.HEARING, Verdict.IGNORE | Cancelled():
            return Turn.LISTENING, [DropUtterance()]
        # The assistant speaks.
        case Turn.SPEAKING, SpeechStarted() if config.barge_in:
            return Turn.OVERLAP, [OpenUtterance()]
        case Turn.SPEAKING, UserInterrupted() | Cancelled():
            return Turn.LISTENING, [stop]
        case Turn.SPEAKING, ReplyFinished():
            return Turn.LISTENING, []
        # Both speak.
        case Turn.OVERLAP, Verdict.TAKE:
            return Turn.SPEAKING, [stop, StartResponse()]
        case Turn.OVERLAP, Verdict.IGNORE:
            return Turn.SPEAKING, [DropUtterance()]
        case Turn.OVERLAP, UserInterrupted():
            return Turn.HEARING, [stop]
        case Turn.OVERLAP, Cancelled():
            return Turn.LISTENING, [stop, DropUtterance()]
        case Turn.OVERLAP, ReplyFinished():
            return Turn.HEARING, []
        case _:
            return turn, []


def _end_of_utterance(event: Event, config: DuplexConfig) -> Event | Verdict:
    """What ends an utterance, as a verdict; any other event as it is."""
    match event:
        case ChunkHeard(verdict=verdict):
            return verdict
        case Committed():
            return Verdict.TAKE
        case SpeechStopped():
            return Verdict.TAKE if config.answer_silence else Verdict.IGNORE
        case _:
            return event

"""What is left of a scene once it was played: both channels, and when what happened. Knows nothing of systems."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from icebreaker.evaluation.duplex.metrics import Span

__all__ = ["PlayedPart", "PlayedReply", "Recording"]

Waveform = NDArray[np.float32]


@dataclass(frozen=True)
class PlayedPart:
    """When a part of the scene began, and when speech in it began and ended."""

    role: str
    start_s: float
    speech: Span


@dataclass
class PlayedReply:
    """One reply as the listener met it.

    Attributes:
        response_id, item_id: the system's names.
        created_s: when it was announced.
        decided_s: when the system said that the user's turn was over; if it did not, when the reply was announced.
        arrived_s: when its first sound came; None if none did.
        text: of the whole reply, as far as it came.
        heard_ms: of its sound.
        sounding: from its first to its last heard sample; None if it made no sound.
        audible_s: its first sample above -40 dB; None if there is none.
        stopped_s: when the listener cut it; None if it played out.
        status: as the system ended it; empty if it did not.
        kept: the text that the system says it kept of a cut reply; None if it does not say.
        sound: what was heard, [S].
    """

    response_id: str
    item_id: str
    created_s: float
    decided_s: float
    arrived_s: float | None = None
    text: str = ""
    heard_ms: float = 0.0
    sounding: Span | None = None
    audible_s: float | None = None
    stopped_s: float | None = None
    status: str = ""
    kept: str | None = None
    sound: Waveform = field(default_factory=lambda: np.zeros(0, np.float32))


@dataclass
class Recording:
    """Both channels of a scene and what happened.

    Attributes:
        user: [S] at 16 kHz, what the microphone gave.
        assistant: [S] at ``sample_rate``, what the listener heard.
        sample_rate: Hz.
        parts: as they were played.
        replies: in order.
        underruns: gaps in the sound of a reply.
        failures: errors that the system reported.
    """

    user: Waveform
    assistant: Waveform
    sample_rate: int
    parts: list[PlayedPart]
    replies: list[PlayedReply]
    underruns: int = 0
    failures: list[str] = field(default_factory=list)

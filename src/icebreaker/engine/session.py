"""A session as the event loop sees it. Knows nothing of what the engine's thread does with it."""

from collections.abc import AsyncIterator, Callable

import numpy as np

from icebreaker.engine.hearing import SAMPLE_RATE
from icebreaker.engine.live import Live
from icebreaker.engine.messages import AddItem, Append, Command, Failed, SessionEvent, Waveform
from icebreaker.engine.outbox import Outbox

__all__ = ["Session"]

MAX_COMMANDS = 5000  # that wait
MAX_AUDIO_S = 60.0  # that waits


class Session:
    """Commands in, events out; see ``SessionLike``."""

    def __init__(self, live: Live, outbox: Outbox, submit: Callable[[Live, Command], None]) -> None:
        self.live, self.outbox = live, outbox
        self._submit = submit
        self.reader = 0
        self._overflowing = False

    @property
    def id(self) -> str:
        """What a client resumes by."""
        return self.live.id

    def push(self, command: Command) -> None:
        """Hand over a command; never blocks. What does not fit the queue is dropped, with a ``Failed`` event."""
        if problem := _problem(command):
            self.outbox.put([Failed(code="invalid", message=problem, command=command)])
            return
        waiting_s = self.live.waiting_samples / SAMPLE_RATE
        if self.live.waiting_commands >= MAX_COMMANDS or (isinstance(command, Append) and waiting_s > MAX_AUDIO_S):
            if not self._overflowing:
                message = (
                    f"expected at most {MAX_COMMANDS} commands and {MAX_AUDIO_S:.0f} s of audio to wait, this one is "
                    "dropped, and so are more; send audio no faster than it is spoken"
                )
                self.outbox.put([Failed(code="queue_overflow", message=message)])
            self._overflowing = True
            return
        self._overflowing = False
        self._submit(self.live, command)

    def events(self) -> AsyncIterator[SessionEvent]:
        """Everything that happens, in order."""
        return self.outbox.read(self.reader)


def _problem(command: Command) -> str | None:
    """What is wrong with a command's sound, if anything."""
    waveform: Waveform | None = None
    if isinstance(command, Append | AddItem):
        waveform = command.waveform
    if waveform is None:
        return None
    if not isinstance(waveform, np.ndarray) or waveform.ndim != 1 or waveform.dtype != np.float32:
        return "expected a waveform as a float32 array [S] at 16 kHz"
    if not np.isfinite(waveform).all():
        return "expected finite samples in [-1, 1], got NaN or infinity; check the decoder of the audio"
    return None

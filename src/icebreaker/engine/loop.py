"""What the engine's thread does: one round after the other over all conversations.

Each tick takes in commands, asks the voice detector, gives slots to the conversations that need one, and runs the
stages of the dialogue once over all slots that are ready: hear, think, speak. What comes out is scattered as events,
after each stage that may have decided something: whoever interrupts or has asked does not wait for others' sound.

Who goes first: a reply gets its first sound in the tick in which it was decided, with as many tokens as its first
segment needs, unless somebody would run dry meanwhile. ``pacing`` says who is given how much sound.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np
import torch

from icebreaker.audio.vad import Silero, SileroState
from icebreaker.dialogue.parts import Parts
from icebreaker.engine.allocator import give_back
from icebreaker.engine.device import Device
from icebreaker.engine.live import Live
from icebreaker.engine.pacing import GUESSED, URGENT_S, Pacing

__all__ = ["Loop"]

logger = logging.getLogger(__name__)

FIRST_TOKENS = 24  # tokens that a reply without sound may get in one tick
WINDOWS_PER_TICK = 8  # of the voice detector, for each session
IDLE_S = 0.25  # between looks at the clock where nothing happens
PACED_S = 0.01  # and where somebody is being played to
GIVE_BACK_S = 30.0  # between returns of free memory, where nothing else is to be done
GIVE_BACK_LATEST_S = 120.0  # and where something else is always to be done
GATHER_S = 0.005  # for more to arrive, so that many microphones do not mean many ticks
REMEMBERED_TICKS = 2000  # for the statistics
REMEMBERED_REPLIES = 1000


class Loop:
    """The conversations, the device they share, and the thread that owns both.

    Args:
        device: slots and models.
        silero: the voice detector.
        ahead_s: of sound that is made in advance of playback.
        clock: in seconds.
        keep: is given every conversation that has changed and is not being answered.
    """

    def __init__(
        self, device: Device, silero: Silero, ahead_s: float, clock: Callable[[], float], keep: Callable[[Live], None]
    ) -> None:
        self.device, self.pacing = device, Pacing(ahead_s)
        self.lives: list[Live] = []
        self.totals = {"replies": 0, "barge_ins": 0, "underruns": 0, "guesses": 0, "good_guesses": 0}
        self.ticks_ms: deque[float] = deque(maxlen=REMEMBERED_TICKS)
        self.first_audio_ms: deque[float] = deque(maxlen=REMEMBERED_REPLIES)
        self._silero, self._clock, self._keep = silero, clock, keep
        self._free = list(range(len(device.state.rows) - 1, -1, -1))
        self._wake = threading.Condition()
        self._inbox: deque[Callable[[], None]] = deque()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._gave_back_s = clock()

    def submit(self, action: Callable[[], None]) -> None:
        """Have the thread do something; from any thread."""
        self._inbox.append(action)
        with self._wake:
            self._wake.notify()

    def start(self) -> None:
        """Begin, unless that has been done."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
            self._thread.start()

    @torch.inference_mode()
    def stop(self) -> None:
        """End the thread after its present tick, and carry out what was submitted."""
        self._stopping = True
        with self._wake:
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
        while self._inbox:
            self._inbox.popleft()()

    def forget(self, live: Live) -> None:
        """A conversation is over; on the thread."""
        if live.slot is not None:
            self.device.reset(live.slot.index)
            self._free.append(live.slot.index)
            live.slot = None
        if live in self.lives:
            self.lives.remove(live)

    def _run(self) -> None:
        while not self._stopping:
            started = time.perf_counter()
            try:
                busy = self.tick()
            except Exception:  # nothing may end the thread: every session hangs on it
                logger.exception("a tick failed")
                busy = False
            if busy:
                self.ticks_ms.append(1000 * (time.perf_counter() - started))
            now = self._clock()
            if now - self._gave_back_s > (GIVE_BACK_LATEST_S if busy else GIVE_BACK_S):
                self._gave_back_s = now
                give_back()
            if busy:
                continue
            wait_s = PACED_S if any(live.waits_for_time(now) for live in self.lives) else IDLE_S
            with self._wake:
                if not self._inbox and not self._stopping:
                    self._wake.wait(wait_s)
            if len(self.lives) > 1:
                time.sleep(GATHER_S)

    @torch.inference_mode()
    def tick(self) -> bool:
        """One round over all conversations; returns whether there was anything for the device to do."""
        now = self._clock()
        while self._inbox:
            self._inbox.popleft()()
        for live in self.lives:
            live.follow_sound()
        for live in self.lives:
            if live.commands:
                self._guard(live, live.work, now)
        self._detect(now)
        self._flush()
        self._place(now)
        seated = {live.slot.index: live for live in self.lives if live.slot is not None and live.needs_slot}
        for live in list(seated.values()):
            self._guard(live, live.prepare, now)
        busy = self._look_ahead(seated)
        busy |= self._hear(seated)
        busy |= self._think(seated)
        self._flush()
        busy |= self._answer(seated, now)
        busy |= self._speak(seated)
        for live in self.lives:
            if live.talking.speech is not None:
                self._guard(live, live.look_at_clock, self._clock())
        busy |= self._transcribe()
        self._flush()
        if busy:
            self.pacing.ticked(self._clock() - now)
        return busy

    def _guard(self, live: Live, action: Callable[..., object], *arguments: object) -> None:
        """Let what goes wrong in one conversation go wrong there only."""
        try:
            action(*arguments)
        except Exception as error:
            self._give_up(live, error)

    def _give_up(self, live: Live, error: Exception) -> None:
        try:
            live.fail(error, self._clock())
        except Exception:
            logger.exception("session %s could not even fail; it forgets what it was doing", live.id)
            live.abort()

    def _detect(self, now: float) -> None:
        """Ask the voice detector about the windows that are due, all sessions together."""
        for _ in range(WINDOWS_PER_TICK):
            due = [(live, window) for live in self.lives if (window := live.listening.window) is not None]
            if not due:
                break
            loud = [(live, window) for live, window in due if live.listening.attention.is_loud(window)]
            chances = dict.fromkeys((live.id for live, _ in due), 0.0)
            if loud:
                states = [live.voice for live, _ in loud]
                state = SileroState(torch.cat([s.context for s in states]), torch.cat([s.hidden for s in states]))
                waveform = torch.from_numpy(np.stack([window for _, window in loud]))
                probabilities, state = self._silero(waveform, state)
                for i, (live, _) in enumerate(loud):
                    live.voice = SileroState(state.context[i : i + 1], state.hidden[i : i + 1])
                    chances[live.id] = float(probabilities[i, 0])
            for live, window in due:
                if live.listening.skips(window):
                    continue
                self._guard(live, live.listening.judge_window, window, chances[live.id], now)

    def _place(self, now: float) -> None:
        """Give slots to those who need one, if need be those of others who do not."""
        for live in self.lives:
            if live.slot is not None or not live.needs_slot:
                continue
            if not self._free:
                resting = [each for each in self.lives if each.slot is not None and not each.needs_slot]
                if not resting:
                    return
                longest = min(resting, key=lambda each: each.used_s)
                assert longest.slot is not None
                self._free.append(longest.slot.index)
                longest.give_up_slot()
            live.take_slot(self._free.pop())
            live.used_s = now

    def _look_ahead(self, seated: dict[int, Live]) -> bool:
        """Ask the state heads of those who have just fallen silent, while nobody needs the time more."""
        if not self._is_calm(seated):
            return False
        looks = {i: chunk for i, live in seated.items() if (chunk := live.intake.next_look()) is not None}
        if not looks:
            return False
        verdicts, after = self.device.foresee(looks)
        for index, verdict in verdicts.items():
            live = seated[index]
            self._guard(live, live.listening.judge_look, verdict)
        ended = [live for index in verdicts if (live := seated[index]).listening.ending]
        if len(ended) == len(looks):  # else it is heard again: the state is that of all
            self.device.came_true(after)
            for live in ended:
                self._guard(live, live.intake.look_came_true)
        return True

    def _hear(self, seated: dict[int, Live]) -> bool:
        chunks = {i: chunk for i, live in seated.items() if (chunk := live.intake.next_chunk()) is not None}
        self._fail(self.device.hear(chunks), seated)
        for index in chunks:
            if index in seated:
                self._guard(seated[index], seated[index].intake.chunk_was_heard)
        return bool(chunks)

    def _think(self, seated: dict[int, Live]) -> bool:
        rows = [i for i, live in seated.items() if self._has_to_think(live)]
        probabilities, failed = self.device.think(rows)
        self._fail(failed, seated)
        for index, each in probabilities.items():
            if index in seated:
                live = seated[index]
                self._guard(live, live.listening.judge_chunk, each, self._clock())
        for live in list(seated.values()):
            self._guard(live, live.intake.finish, self._clock())
        return bool(rows)

    def _answer(self, seated: dict[int, Live], began_s: float) -> bool:
        """Begin the replies that were just decided on, and write until there is something to say aloud."""
        for live in list(seated.values()):
            self._guard(live, live.begin_reply, self._clock())
        stop_s = began_s + self.pacing.spare_s(self._leads(seated)) / 2
        for written in range(FIRST_TOKENS):
            waiting = [i for i, live in seated.items() if live.talking.needs_text] or self._guesses(seated)
            if not waiting or (written and self._clock() > stop_s):
                return bool(written)
            self._fail(self.device.think(waiting)[1], seated)
        return True

    def _guesses(self, seated: dict[int, Live]) -> list[int]:
        """Guessed replies that need text before their first sound, while nobody needs the time more."""
        calm = self._is_calm(seated)
        return [i for i, live in seated.items() if calm and live.talking.guessing.needs_text]

    def _is_calm(self, seated: dict[int, Live]) -> bool:
        return all(lead >= URGENT_S for lead in self._leads(seated).values() if lead != GUESSED)

    def _leads(self, seated: dict[int, Live]) -> dict[int, float]:
        now = self._clock()
        return {i: lead for i, live in seated.items() if (lead := live.talking.lead_s(now)) is not None}

    def _has_to_think(self, live: Live) -> bool:
        assert live.slot is not None
        row = self.device.row(live.slot)
        return row.for_context is not None or row.for_branch is not None

    def _speak(self, seated: dict[int, Live]) -> bool:
        """Draw for everybody together, then render and send what is awaited before the rest."""
        leads = self._leads(seated)
        spoken = {i: lead for i, lead in leads.items() if seated[i].talking.has_to_speak}
        wanted = self.pacing.share(spoken, others=len(seated) - len(spoken))
        started = self._clock()
        codes, failed = self.device.draw(wanted)
        self._fail(failed, seated)
        for rows in self.pacing.in_order(leads, wanted):
            sound, failed = self.device.render({i: codes[i] for i in rows if i in codes and i in seated})
            self._fail(failed, seated)
            for index in rows:
                if index in seated:
                    live = seated[index]
                    self._guard(live, live.talking.advance, sound.get(index), self._clock())
            self._flush()
        self.pacing.made(sum(wanted.values()), self._clock() - started)
        return bool(wanted)

    def _transcribe(self) -> bool:
        """One utterance, if nobody waits for a first sound."""
        if any(live.talking.is_awaited for live in self.lives) and not self._instant_transcripts:
            return False
        for live in self.lives:
            if live.intake.untold:
                self._guard(live, live.intake.transcribe)
                return True
        return False

    @property
    def _instant_transcripts(self) -> bool:
        model = self.device.dialogue.model
        return isinstance(model, Parts) and model.adapter.lookup is not None

    def _fail(self, failed: dict[int, Exception], seated: dict[int, Live]) -> None:
        for index, error in failed.items():
            if index in seated:
                self._give_up(seated.pop(index), error)

    def _flush(self) -> None:
        """Send events, count, and have what changed written to disk."""
        for live in self.lives:
            for name, number in live.counts.items():
                self.totals[name] += number
                live.counts[name] = 0
            self.first_audio_ms.extend(live.first_audio_ms)
            live.first_audio_ms.clear()
            if live.events and live.outbox is not None:
                live.outbox.put(live.events)
                live.events.clear()
                live.follow_sound()
            if live.changed and not live.talking.making:
                self._keep(live)

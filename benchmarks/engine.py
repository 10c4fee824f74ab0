"""Many active conversations with the mini model: ticks, first audio, underruns, bytes; and one after the other.

Every session asks the recorded question in real time, listens to the answer, and asks again; starts are spread over a
question's length. Time is that of the engine's thread: it goes on by the CPU time that a tick takes, and jumps to the
next frame of a microphone when there is nothing to do. So what else runs on the machine does not count, and the figures
are those of one core of its own. First audio counts from the decision to take the turn.

``ratio``: seconds of questions and answers per second of computing, together over one session at a time.

    python benchmarks/engine.py [--sessions 8] [--turns 3] [--idle 0]
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from icebreaker.audio.pcm import load_audio
from icebreaker.dialogue import Dialogue
from icebreaker.engine.engine import Engine, EngineConfig
from icebreaker.engine.messages import Append, ReplyDone, SessionConfig
from icebreaker.engine.session import Session
from icebreaker.talking import load_dialogue

QUESTION = Path(__file__).parents[1] / "examples" / "question.wav"
FRAME = 320  # samples, 20 ms
FRAME_S = FRAME / 16000
GATHER_S = 0.005  # as the engine's own thread waits for more
PAUSE_S = 0.3  # between an answer and the next question
SILENCE = np.zeros(FRAME, np.float32)


class User:
    """Asks, listens, and asks again."""

    def __init__(self, session: Session, question: np.ndarray, turns: int, start_s: float) -> None:
        self.session, self.question, self.left = session, question, turns
        self.next_frame_s, self.ask_at, self.position = start_s, start_s, len(question)

    def live(self, now_s: float) -> None:
        """Send the frames that are due and look at what came."""
        while self.next_frame_s <= now_s:
            if self.ask_at is not None and self.next_frame_s >= self.ask_at and self.left:
                self.position, self.ask_at = 0, None
            frame = self.question[self.position : self.position + FRAME]
            self.position += FRAME
            self.session.push(Append(waveform=frame if len(frame) == FRAME else SILENCE))
            self.next_frame_s += FRAME_S
        for event in self.session.outbox.take():
            if isinstance(event, ReplyDone):
                self.left -= 1
                self.ask_at = now_s + self.session.live.valve.dry_in(now_s) + PAUSE_S


class Hall:
    """An engine whose time is the CPU time of its thread."""

    def __init__(self, dialogue: Dialogue, sessions: int, **options: float | None) -> None:
        self.now_s, self.began = 0.0, time.thread_time()
        self.ticking = False
        config = EngineConfig(slots=min(sessions, 8), max_sessions=sessions, **options)  # type: ignore[arg-type]
        self.engine = Engine(dialogue, config, clock=self.clock)
        self.busy_s, self.spoken_s = 0.0, 0.0
        self.ticks: list[float] = []

    def clock(self) -> float:
        return self.now_s + (time.thread_time() - self.began if self.ticking else 0.0)

    def run(self, users: list[User], until_s: float | None = None) -> None:
        while any(user.left for user in users) if until_s is None else self.now_s < until_s:
            for user in users:
                user.live(self.now_s)
            self.began, self.ticking = time.thread_time(), True
            busy = self.engine.loop.tick()
            self.ticking = False
            took_s = time.thread_time() - self.began
            self.busy_s += took_s
            self.now_s += took_s
            if busy:
                self.ticks.append(1000 * took_s)
            else:
                waiting = min(user.next_frame_s for user in users)
                self.now_s = max(self.now_s + GATHER_S, waiting)


def measure(dialogue: Dialogue, question: np.ndarray, sessions: int, turns: int) -> dict[str, float]:
    hall = Hall(dialogue, sessions)
    enter = hall.engine.enter
    how = SessionConfig(turns="silence", silence_ms=300)
    spread_s = len(question) / 16000 / sessions
    users = [User(enter(how), question, turns, i * spread_s) for i in range(sessions)]
    hall.run(users)
    stats = hall.engine.stats()
    first, ticks = sorted(stats.first_audio_ms), sorted(hall.ticks)
    answers_s = sum(
        entry.item.audio_ms for user in users for entry in user.session.live.memory.conversation if entry.item.role
    )
    return {
        "sessions": sessions, "turns": turns, "seconds": round(hall.now_s, 1),
        "busy": round(hall.busy_s / hall.now_s, 3),
        "first_audio_ms_p50": round(first[len(first) // 2]), "first_audio_ms_p95": round(first[int(len(first) * 0.95)]),
        "underruns": stats.underruns, "replies": stats.replies,
        "tick_ms_p50": round(ticks[len(ticks) // 2], 1), "tick_ms_p95": round(ticks[int(len(ticks) * 0.95)], 1),
        "bytes_per_slot": stats.bytes_per_session,
        "bytes_of_a_resting_session": max(user.session.live.bytes_kept() for user in users),
        "speech_s_per_busy_s": round(answers_s / 1000 / hall.busy_s, 2),
    }  # fmt: skip


def idle(dialogue: Dialogue, sessions: int, microphone: bool) -> float:
    """Share of a core that sessions in which nothing is said take for ten seconds."""
    hall = Hall(dialogue, sessions)
    users = [User(hall.engine.enter(SessionConfig()), SILENCE, 0, 0.0) for _ in range(sessions)]
    if not microphone:
        for user in users:
            user.next_frame_s = 1e9
    while hall.now_s < 10.0:
        hall.run(users, until_s=min(10.0, hall.now_s + 0.1)) if microphone else _rest(hall)
    return hall.busy_s / hall.now_s


def _rest(hall: Hall) -> None:
    began = time.thread_time()
    hall.engine.loop.tick()
    took_s = time.thread_time() - began
    hall.busy_s += took_s
    hall.now_s += took_s + 0.25


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sessions", type=int, default=8)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--idle", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    dialogue, question = load_dialogue("mini", None), load_audio(QUESTION, 16000)
    measure(dialogue, question, 1, 1)  # warm
    alone = measure(dialogue, question, 1, max(2, options.turns))
    together = measure(dialogue, question, options.sessions, options.turns)
    together["ratio"] = round(together["speech_s_per_busy_s"] / alone["speech_s_per_busy_s"], 2)
    print(json.dumps({"alone": alone, "together": together}, indent=1))
    if options.idle:
        shares = {name: round(idle(dialogue, options.idle, on), 4) for name, on in (("muted", False), ("silent", True))}
        print(json.dumps({"idle sessions": options.idle, "share of a core": shares}))


if __name__ == "__main__":
    main()

"""Many active conversations with the mini model: ticks, first audio, underruns, bytes; and one after the other.

Every session speaks the recorded question in real time, waits for the answer's end, and asks again; starts are spread
over a question's length. ``sequential`` answers as many questions one at a time, as fast as it can, by
the same code in the same run; ``ratio`` is seconds of speech made per second of computing, together over that.
First audio counts from the decision to take the turn.

    python benchmarks/engine.py [--sessions 8] [--turns 3] [--threads 1]
"""

import argparse
import asyncio
import json
import time
from pathlib import Path

import numpy as np
import torch

from icebreaker.audio.pcm import load_audio
from icebreaker.engine.engine import Engine, EngineConfig
from icebreaker.engine.messages import Append, AudioDelta, Commit, ReplyDone, Respond, SessionConfig
from icebreaker.engine.session import Session
from icebreaker.talking import load_dialogue

QUESTION = Path(__file__).parents[1] / "examples" / "question.wav"
FRAME = 320  # samples, 20 ms
SILENCE = np.zeros(FRAME, np.float32)


async def microphone(session: Session, question: np.ndarray, asking: asyncio.Event) -> None:
    """Real time: silence, or the question while ``asking`` says so."""
    start, frames, position = time.monotonic(), 0, len(question)
    while True:
        if asking.is_set():
            position = 0
            asking.clear()
        frame = question[position : position + FRAME]
        position += FRAME
        session.push(Append(waveform=frame if len(frame) == FRAME else SILENCE))
        frames += 1
        await asyncio.sleep(max(0.0, start + frames * FRAME / 16000 - time.monotonic()))


async def converse(engine: Engine, question: np.ndarray, turns: int, delay_s: float) -> float:
    """One user; returns seconds of answers."""
    await asyncio.sleep(delay_s)
    async with engine.session(SessionConfig(turns="silence", silence_ms=300)) as session:
        asking = asyncio.Event()
        asking.set()
        sending = asyncio.create_task(microphone(session, question, asking))
        made_s, done = 0.0, 0
        async for event in session.events():
            if isinstance(event, ReplyDone):
                made_s += event.reply.audio_ms / 1000
                await asyncio.sleep(event.reply.audio_ms / 1000)  # it plays
                done += 1
                if done == turns:
                    break
                asking.set()
        sending.cancel()
        return made_s


async def one_by_one(engine: Engine, question: np.ndarray, count: int) -> tuple[float, float]:
    """Seconds of answers, and seconds it took."""
    made_s, started = 0.0, time.perf_counter()
    for _ in range(count):
        async with engine.session(SessionConfig(turns="client")) as session:
            for command in (Append(waveform=question), Commit(), Respond()):
                session.push(command)
            async for event in session.events():
                if isinstance(event, AudioDelta):
                    made_s += len(event.waveform) / engine.sample_rate
                if isinstance(event, ReplyDone):
                    break
    return made_s, time.perf_counter() - started


async def measure(options: argparse.Namespace) -> dict[str, object]:
    dialogue = load_dialogue("mini", None)
    question = load_audio(QUESTION, 16000)
    config = EngineConfig(slots=options.sessions, max_sessions=options.sessions)
    alone = Engine(dialogue, EngineConfig(slots=1, max_sessions=1, grace_s=0.0, ahead_s=60.0))
    await one_by_one(alone, question, 2)  # warm
    made_s, took_s = await one_by_one(alone, question, options.sessions)
    alone.close()
    engine = Engine(dialogue, config)
    spread = len(question) / 16000 / options.sessions
    started, cpu = time.perf_counter(), time.process_time()
    talks = [converse(engine, question, options.turns, i * spread) for i in range(options.sessions)]
    spoken_s = sum(await asyncio.gather(*talks))
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    stats = engine.stats()
    engine.close()
    first = sorted(stats.first_audio_ms)
    busy_s = sum(engine.loop.ticks_ms) / 1000
    return {
        "sessions": options.sessions, "turns": options.turns, "wall_s": round(wall_s, 1), "cpu_s": round(cpu_s, 1),
        "first_audio_ms_p50": round(first[len(first) // 2]), "first_audio_ms_p95": round(first[int(len(first) * 0.95)]),
        "underruns": stats.underruns, "tick_ms_p50": round(stats.tick_ms_p50, 1),
        "tick_ms_p95": round(stats.tick_ms_p95, 1), "bytes_per_session": stats.bytes_per_session,
        "speech_s": round(spoken_s, 1), "engine_busy_s": round(busy_s, 1),
        "sequential_speech_s_per_s": round(made_s / took_s, 2),
        "together_speech_s_per_busy_s": round(spoken_s / busy_s, 2),
        "ratio": round(spoken_s / busy_s / (made_s / took_s), 2),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sessions", type=int, default=8)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(json.dumps(asyncio.run(measure(options)), indent=1))


if __name__ == "__main__":
    main()

"""What it gains to begin replies before the turn is decided: the wait from the decision to the first sound.

The recorded question is asked again and again at the same moments, with and without guessing, by the engine's CPU time
as in ``engine.py``; a question with a pause in it shows what a wrong guess costs whoever goes on.

    python benchmarks/guessing.py [--turns 5] [--silence-ms 500]
"""

import argparse
import json
import statistics
from typing import Any

import numpy as np
import torch
from engine import QUESTION, Hall, User

from icebreaker.audio.pcm import load_audio
from icebreaker.dialogue import Dialogue
from icebreaker.engine.messages import SessionConfig
from icebreaker.talking import load_dialogue

LEAN = 0.25
PAUSE_MS = 650  # in which a guess is made, and dropped
PERIOD_S = 10.0


class Punctual(User):
    """Asks by the clock, whatever was answered: both runs hear the same sound at the same positions."""

    def live(self, now_s: float) -> None:
        super().live(now_s)
        if self.ask_at is not None and self.ask_at % PERIOD_S:
            self.ask_at = PERIOD_S * (1 + self.ask_at // PERIOD_S)


def measure(dialogue: Dialogue, question: np.ndarray, turns: int, silence_ms: int, lean: float | None) -> Any:
    hall = Hall(dialogue, 1, lean=lean)
    session = hall.engine.enter(SessionConfig(turns="silence", silence_ms=silence_ms))
    user = Punctual(session, question, turns, 0.0)
    hall.run([user])
    totals, first = hall.engine.loop.totals, hall.engine.stats().first_audio_ms
    said = [entry.item.text for entry in session.live.memory.conversation if entry.item.role == "assistant"]
    return {
        "first_audio_ms_p50": round(statistics.median(first), 1), "first_audio_ms": [round(each, 1) for each in first],
        "guesses": totals["guesses"], "right": totals["good_guesses"], "busy_s": round(hall.busy_s, 2),
    }, said  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--silence-ms", type=int, default=500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    dialogue, question = load_dialogue("mini", None), load_audio(QUESTION, 16000)
    measure(dialogue, question, 1, options.silence_ms, None)  # warm
    paused = np.concatenate([question, np.zeros(16 * PAUSE_MS, np.float32), question])
    for name, asked, more_ms in (("question", question, 0), ("with a pause", paused, PAUSE_MS)):
        without, said = measure(dialogue, asked, options.turns, options.silence_ms + more_ms, None)
        guessing, also = measure(dialogue, asked, options.turns, options.silence_ms + more_ms, LEAN)
        ratio = guessing["first_audio_ms_p50"] / max(without["first_audio_ms_p50"], 1e-3)
        told = {"without": without, "guessing": guessing, "ratio": round(ratio, 3), "same words": said == also}
        print(json.dumps({name: told}, indent=1))


if __name__ == "__main__":
    main()

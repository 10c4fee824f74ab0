"""How long after the first text token a LLaMA-Omni makes its first sound, by Omega and by the rule chunks meet with.

CPU milliseconds of the process, so that neighbours on the machine do not count: on one thread of an idle core about
the real ones. The promise for mini is at most 150 ms at Omega = 10, cross-faded, on two cores.

    OMP_NUM_THREADS=1 python benchmarks/omega.py [--model mini-llama-omni] [--rounds 5] [QUESTION.wav ...]
"""

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch

from icebreaker.audio.pcm import load_audio
from icebreaker.dialogue import Dialogue
from icebreaker.dialogue.parts import OmniParts, UnitOutConfig
from icebreaker.duplex import Committed, SpeechStarted
from icebreaker.evaluation.respond import chunks_of
from icebreaker.talking import load_dialogue

QUESTION = Path(__file__).parents[1] / "examples" / "question.wav"
OMEGAS = (10, 20, 40, 80, 0)
RULES = ("crossfade", "independent", "exact")


@torch.inference_mode()
def waited(dialogue: Dialogue, question: Path) -> dict[str, float]:
    """CPU milliseconds from the decision to the first text and from there to the first sound; lagging words."""
    chunks = chunks_of(load_audio(question, 16_000))
    state = dialogue.signal(0, SpeechStarted(), dialogue.initial_state([0], 1200))
    for chunk in chunks:
        state = dialogue.hear(chunk[None], [True], state)
    began, wrote = time.process_time(), 0.0
    state = dialogue.signal(0, Committed(), state)
    while (reply := state.rows[0].reply) is not None and not reply.done:
        _, state = dialogue.think(state)
        wrote = wrote or time.process_time()
        drawn, state = dialogue.draw(dialogue.prefill(state))
        audio, state = dialogue.render(drawn, state)
        if len(audio[0]):
            reply = state.rows[0].reply
            words = len(reply.text.split()) if reply else 0
            return {
                "first_text": 1000 * (wrote - began), "to_sound": 1000 * (time.process_time() - wrote),
                "lagging_words": float(words),
            }  # fmt: skip
    return {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("questions", nargs="*", type=Path, default=[QUESTION])
    parser.add_argument("--model", default="mini-llama-omni")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    parts = load_dialogue(options.model, None).model
    if not isinstance(parts, OmniParts):
        parser.error(f"{options.model} does not speak in units; give a LLaMA-Omni")
    for rule in RULES:
        for omega in OMEGAS:
            settings = replace(parts.settings, unit_out=UnitOutConfig(omega=omega, rule=rule))
            dialogue = Dialogue(replace(parts, settings=settings))
            runs = [waited(dialogue, question) for question in options.questions for _ in range(options.rounds)]
            runs = [run for run in runs if run]
            figures = {name: round(statistics.median(run[name] for run in runs), 1) for name in runs[0]} if runs else {}
            print(json.dumps({"rule": rule, "omega": omega or "inf", **figures, "spoken": len(runs)}), flush=True)


if __name__ == "__main__":
    main()

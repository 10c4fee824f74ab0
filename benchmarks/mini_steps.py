"""mini: what each optimisation gains, one switched off at a time, in one run: tokens and codes a second, first sound.

The recorded question is asked of the dialogue by itself; time is CPU time of one thread, the least of the rounds, in
which all ways take turns. First sound counts from the end of the turn to the first piece of audio, *spoken* to the last
one. The guess (a reply begun in the silence that may end the turn) is the engine's: there first sound is the median
wait from the decision, by ``benchmarks/guessing.py``.

    python benchmarks/mini_steps.py [--rounds 12] [--context 256]
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from guessing import LEAN, measure

from icebreaker.audio.fbank import CHUNK_SAMPLES
from icebreaker.audio.pcm import load_audio
from icebreaker.dialogue import Dialogue
from icebreaker.dialogue.state import DialogueState
from icebreaker.duplex import Committed, DuplexConfig, SpeechStarted
from icebreaker.nn import matrix
from icebreaker.talking import load_dialogue

QUESTION = Path(__file__).parents[1] / "examples" / "question.wav"
WHOLE = 10_000  # codes in a step: more than any segment has
MANY = 1_000_000  # vectors: more than are ever multiplied
BATCHES = 1, 16


@dataclass
class Way:
    """One way to answer, and the seconds it took in each round."""

    dialogue: Dialogue
    token: dict[int, list[float]] = field(default_factory=lambda: {batch: [] for batch in BATCHES})
    code: dict[int, list[float]] = field(default_factory=lambda: {batch: [] for batch in BATCHES})
    sound: list[float] = field(default_factory=list)
    spoken: list[float] = field(default_factory=list)


def loaded() -> Dialogue:
    """One whose replies begin when we say so."""
    return load_dialogue("mini", None).with_duplex(DuplexConfig(take_threshold=1.0, ignore_threshold=1.0))


def in_torch() -> Dialogue:
    dialogue = loaded()
    dialogue.model.llm.ticks = dialogue.model.llm.few_logits = dialogue.parts.codec_lm.ticks = None
    return dialogue


def in_float32() -> Dialogue:
    packed_from = matrix.PACKED_FROM, matrix.PACKED_FROM_SMALL
    matrix.PACKED_FROM = matrix.PACKED_FROM_SMALL = MANY
    try:
        return loaded()
    finally:
        matrix.PACKED_FROM, matrix.PACKED_FROM_SMALL = packed_from


def ways() -> dict[str, Way]:
    """As deployed, and without each optimisation."""
    deployed = loaded()
    settings = deployed.settings

    def changed(**changes: object) -> Way:
        return Way(Dialogue(replace(deployed.parts, settings=replace(settings, **changes))))

    return {
        "as deployed": Way(deployed),
        "decode steps in torch": Way(in_torch()),
        "decode steps with float32 weights": Way(in_float32()),
        "a segment's codes all at once": changed(codes_per_step=WHOLE),
        "the release's wave-out, 20 + 10": changed(wave_out=replace(settings.wave_out, rule="official")),
        "segments end at marks only": changed(segmenter=replace(settings.segmenter, rule="official_server")),
        "not taken: 16 codes a step": changed(codes_per_step=16),
        "not taken: 4 codes a step": changed(codes_per_step=4),
        "not taken: a first segment from 4 tokens on": changed(segmenter=replace(settings.segmenter, first_tokens=4)),
    }  # fmt: skip


def asked(dialogue: Dialogue, chunks: torch.Tensor) -> DialogueState:
    """The question is heard, the turn not yet taken."""
    state = dialogue.initial_state([0], 1024)
    _, state = dialogue.think(state)
    state = dialogue.signal(0, SpeechStarted(), state)
    for chunk in chunks:
        state = dialogue.hear(chunk[None], [True], state)
        _, state = dialogue.think(state)
    return state


def answer(way: Way, chunks: torch.Tensor) -> tuple[str, int]:
    """Time the reply; its words and samples."""
    dialogue, samples = way.dialogue, 0
    state, began = asked(dialogue, chunks), time.thread_time()
    state = dialogue.signal(0, Committed(), state)
    while (reply := state.rows[0].reply) is not None and not reply.done:
        _, state = dialogue.think(state)
        state = dialogue.prefill(state)
        drawn, state = dialogue.draw(state)
        audio, state = dialogue.render(drawn, state)
        if not samples and len(audio[0]):
            way.sound.append(time.thread_time() - began)
        samples += len(audio[0])
    way.spoken.append(time.thread_time() - began)
    assert reply is not None
    return reply.text, samples


def steps(way: Way, batch: int, context: int) -> Iterator[tuple[list[float], Callable[[], object]]]:
    """A token and a code for every row, as often as one likes: caches do not grow by it."""
    llm, lm = way.dialogue.model.llm, way.dialogue.parts.codec_lm
    cache, one = llm.new_cache(batch, context + 1), torch.ones(batch, dtype=torch.long)
    cache = cache._replace(length=cache.length + context)

    def token() -> None:
        hidden, _ = llm(llm.embed(one[:, None]), cache, one)
        llm.logits(hidden[:, -1]).argmax(-1).tolist()

    text = torch.randn(batch, 6, llm.width, generator=torch.Generator().manual_seed(0))
    state = lm.prefill(text, 6 * one, text, 6 * one, max_codes=4)
    yield way.token[batch], token
    yield way.code[batch], lambda: lm.step(one, state)[0].argmax(-1).tolist()


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--context", type=int, default=256)
    options = parser.parse_args()
    torch.set_num_threads(1)
    question, all_ways, told = load_audio(QUESTION, 16000), ways(), dict[str, tuple[str, int]]()
    chunks = torch.from_numpy(question[: len(question) // CHUNK_SAMPLES * CHUNK_SAMPLES]).view(-1, CHUNK_SAMPLES)
    for number in range(options.rounds + 1):
        for name, way in all_ways.items():
            told[name] = answer(way, chunks)
            for batch in BATCHES:
                for seconds, step in steps(way, batch, options.context):
                    for _ in range(12):
                        began = time.thread_time()
                        step()
                        seconds.append(time.thread_time() - began)
            if not number:  # warm
                way.sound.clear(), way.spoken.clear()
    print(
        "| | tokens a second | 16 rows | codes a second | 16 rows | first sound, ms | spoken, ms | same words, length |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    text, samples = told["as deployed"]
    for name, way in all_ways.items():
        same = ", ".join("yes" if a == b else "no" for a, b in zip(told[name], (text, samples), strict=True))
        rates = [batch / min(times[batch]) for times in (way.token, way.code) for batch in BATCHES]
        figures = (*rates, 1e3 * min(way.sound), 1e3 * min(way.spoken))
        print(f"| {name} | {' | '.join(f'{each:.0f}' for each in figures)} | {same} |")
    dialogue = load_dialogue("mini", None)
    for name, lean in (("engine, no guess", None), ("engine, a guess", LEAN)):
        figures, _ = measure(dialogue, question, 5, 500, lean)
        print(f"| {name} | | | | | {figures['first_audio_ms_p50']:.0f} | | |")
    print(f"\nThe answer: {text!r}, {samples / all_ways['as deployed'].dialogue.sample_rate:.2f} s.")


if __name__ == "__main__":
    main()

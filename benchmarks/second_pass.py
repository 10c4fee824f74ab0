"""The second pass over a turn: the pruned search against one over all tokens, on questions that a model has heard.

    python benchmarks/second_pass.py [--model mini] [--manifest runs/data/questions/manifest.jsonl]

Without a manifest the bundled question is searched. The naive search is the same with nothing pruned but the beam:
every token is scored after every prefix in every frame. The floor is one token's chance after one prefix for every
frame, the least that any search with a language model looks up.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from icebreaker.audio.pcm import load_audio
from icebreaker.data.manifest import read_manifest
from icebreaker.dialogue import Dialogue
from icebreaker.dialogue.second_pass import SecondPass
from icebreaker.dialogue.state import Utterance
from icebreaker.duplex import SpeechStarted
from icebreaker.evaluation.respond import chunks_of
from icebreaker.models.ctc_search import Beam, CTCSearch, CTCSearchConfig
from icebreaker.talking import load_dialogue

QUESTION = Path(__file__).parents[1] / "examples" / "question.wav"
ROUNDS = 5


def best_ms(run: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Milliseconds of the quickest of some rounds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - start))
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--recordings", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    dialogue = load_dialogue(options.model, None)
    second = dialogue.second_pass
    if second is None:
        raise SystemExit(f"{options.model} brings no language model, so it has no second pass; train stage ngram")
    paths = [QUESTION]
    if options.manifest:
        paths = [item.audio for item in read_manifest(options.manifest) if item.split == "test"][: options.recordings]
    print("| turn, s | vectors | tokens | second pass, ms | naive, ms | ratio | floor, ms | same |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    for path in paths:
        print(row(second, hear(dialogue, path), len(load_audio(path, 16_000)) / 16_000))


def row(second: SecondPass, utterance: Utterance, seconds: float) -> str:
    language, config = second.language, second.settings.second_pass
    log_p = second.lookup.logits(torch.cat(list(utterance.vectors))).log_softmax(dim=-1).numpy()

    def search(config: CTCSearchConfig) -> tuple[int, ...]:
        fresh = CTCSearch(language, config)  # remembers nothing of other turns
        return fresh.best(fresh.advance(Beam(), log_p))[0]

    def least() -> None:
        for _ in log_p:
            language.log_p((language.begin, 1, 2), np.array([3]))

    everything = replace(config, choices=log_p.shape[1], least=-1e9, within=1e9)
    ours, naive = best_ms(lambda: search(config)), best_ms(lambda: search(everything), rounds=1)
    ids, same = search(config), search(config) == search(everything)
    figures = f"{ours:.1f} | {naive:.0f} | {naive / ours:.0f} | {best_ms(least):.2f} | {same}"
    return f"| {seconds:.1f} | {len(log_p)} | {len(ids)} | {figures} |"


def hear(dialogue: Dialogue, path: Path) -> Utterance:
    state = dialogue.signal(0, SpeechStarted(), dialogue.initial_state([0], 2000))
    for chunk in chunks_of(load_audio(path, 16_000)):
        state = dialogue.hear(chunk[None], [True], state)
    utterance = state.rows[0].utterance
    assert utterance is not None
    return utterance


if __name__ == "__main__":
    main()

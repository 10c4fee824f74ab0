"""The speech decoder of LLaMA-Omni at the published size, one thread: a token with a cache, and all tokens anew.

The official implementation recomputes every frame at every token; ours computes the token's 25. Random weights,
float32. CPU seconds (least of the rounds; what an idle core would take) and wall seconds, both ways in one run. Beside
them the figures of the same two ways measured on another machine (Intel Xeon with AVX-512 and AMX).

    OMP_NUM_THREADS=1 python benchmarks/unit_ctc.py [--tokens 1 10 40 80] [--rounds 2]
"""

import argparse
import json
import time
from collections.abc import Callable

import torch

from icebreaker.models.unit_ctc import UnitCTC, UnitCTCConfig, UnitCTCState

REFERENCE_CPU_S = {1: (0.38, 0.38), 10: (0.40, 1.52), 40: (0.40, 5.8), 80: (0.46, 11.2)}  # with a cache, anew


def random_decoder() -> UnitCTC:
    """The published size, quickly filled."""
    with torch.device("meta"):
        decoder = UnitCTC(UnitCTCConfig(llm_dim=4096))
    decoder = decoder.to_empty(device="cpu").eval().requires_grad_(False)
    noise = torch.randn(1 << 20) * 0.02
    for weight in decoder.parameters():
        repeats = -(-weight.numel() // len(noise))
        weight.copy_(noise.repeat(repeats)[: weight.numel()].view(weight.shape))
    return decoder


def timed(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Least CPU seconds and least wall seconds of ``rounds``."""
    found = []
    for _ in range(rounds):
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        found.append((time.process_time() - cpu, time.perf_counter() - wall))
    return min(cpu for cpu, _ in found), min(wall for _, wall in found)


def at_length(state: UnitCTCState, frames: int) -> UnitCTCState:
    """A state that has ``frames`` frames behind it."""
    length = torch.full_like(state.cache.length, frames)
    return state._replace(cache=state.cache._replace(length=length))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 10, 40, 80])
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    torch.manual_seed(0)
    decoder = random_decoder()
    one, factor = torch.ones(1, dtype=torch.long), decoder.config.upsample
    for tokens in options.tokens:
        states = torch.randn(1, tokens, 4096)
        state = decoder.initial_state(1, tokens)
        with torch.inference_mode():
            whole = timed(lambda: decoder(states, one * tokens, at_length(state, 0)), options.rounds)  # noqa: B023
            behind = at_length(state, (tokens - 1) * factor)
            step = timed(lambda: decoder(states[:, -1:], one, behind), options.rounds)  # noqa: B023
        figures = {
            "token": tokens,
            "cached_cpu_s": round(step[0], 3), "anew_cpu_s": round(whole[0], 3),
            "cached_wall_s": round(step[1], 3), "anew_wall_s": round(whole[1], 3),
            "times_faster": round(whole[0] / step[0], 1),
            "reference_cached_cpu_s, reference_anew_cpu_s": REFERENCE_CPU_S.get(tokens),
        }  # fmt: skip
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()

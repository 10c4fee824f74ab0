"""The unit vocoder of LLaMA-Omni at the published size, one thread: whole, and in chunks by each rule.

Random weights, float32; CPU seconds (least of the rounds) beside the figures of the reference implementation on
another machine (Intel Xeon with AVX-512 and AMX). Chunks are of 10 units of 2 frames each, 100 units in all.

    OMP_NUM_THREADS=1 python benchmarks/unit_vocoder.py [--rounds 3]
"""

import argparse
import json
import time
from collections.abc import Callable

import torch

from icebreaker.models.unit_vocoder import UnitVocoder, UnitVocoderConfig
from icebreaker.models.unit_wave import UnitWaveOut

REFERENCE_CPU_S = {10: 0.042, 17: 0.063, 100: 0.27, 172: 0.47}  # by frames
UNITS, OMEGA = 100, 10


def least(work: Callable[[], object], rounds: int) -> float:
    """CPU seconds of the fastest of ``rounds``."""
    found = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def in_chunks(out: UnitWaveOut, units: list[int]) -> None:
    state = out.initial_state()
    for start in range(0, len(units), OMEGA):
        _, state = out.push(units[start : start + OMEGA], state, last=start + OMEGA >= len(units))


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    torch.manual_seed(0)
    vocoder = UnitVocoder(UnitVocoderConfig()).eval()
    vocoder.duration.project.weight.zero_()
    vocoder.duration.project.bias.fill_(1.0986)  # ln 3: every unit lasts 2 frames
    for frames, reference in REFERENCE_CPU_S.items():
        units = torch.randint(0, 1000, (1, frames))
        seconds = least(lambda: vocoder.decode(units), rounds)  # noqa: B023
        row = {"frames": frames, "cpu_s": round(seconds, 3), "reference_cpu_s": reference}
        print(json.dumps(row | {"real_time_factor": round(seconds / (frames * 0.02), 3)}), flush=True)
    units = torch.randint(0, 1000, (UNITS,)).tolist()
    for rule in ("independent", "crossfade", "exact"):
        seconds = least(lambda: in_chunks(UnitWaveOut(vocoder, rule), units), rounds)  # noqa: B023
        print(json.dumps({"rule": rule, "cpu_s": round(seconds, 3), "sound_s": UNITS * 2 * 0.02}), flush=True)


if __name__ == "__main__":
    main()

"""How fast codes become sound on one CPU thread: ours against decoding overlapping chunks, and against the machine.

    python benchmarks/codec.py [--mini runs/mini/codec]

At the published sizes with random weights (speed does not depend on them). The floor is the multiplications of each
convolution over the fastest rate this machine reached on a large matrix product just before. Times are CPU times of the
one thread: on an idle machine the same as wall time, and little disturbed by neighbours on a busy one.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from icebreaker.config import from_mapping
from icebreaker.models.codec import Codec, CodecConfig
from icebreaker.models.codec_stream import CodecStream
from icebreaker.training.stage_files import load_into, stage_config

CHUNK, OVERLAP = 40, 10  # codes, as the official wave-out takes them


def median_ms(call: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median and minimum of CPU time; the first call is not counted."""
    call()
    times = []
    for _ in range(repeats):
        started = time.process_time()
        call()
        times.append(1e3 * (time.process_time() - started))
    return statistics.median(times), min(times)


def peak_gflops() -> float:
    """The fastest of several large float32 matrix products."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    return 2 * 1024**3 / (median_ms(lambda: a @ b, 12)[1] * 1e6)


def flops_per_code(codec: Codec) -> float:
    """Twice the multiply-adds of every convolution of the generator, for one code."""
    total = 0.0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        frames = inputs[0].shape[-1] if isinstance(module, nn.ConvTranspose1d) else output.shape[-1]
        total += 2 * module.weight.numel() * frames

    hooks = [
        module.register_forward_hook(count)
        for module in codec.generator.modules()
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d)
    ]
    codec.decode(torch.zeros(1, CHUNK, dtype=torch.long))
    for hook in hooks:
        hook.remove()
    return total / CHUNK


def incremental(codec: Codec, chunk: int) -> Callable[[], object]:
    """One steady step of our stream."""
    stream, codes = CodecStream(codec), torch.randint(codec.config.codes, (1, chunk))
    lengths, last = torch.tensor([chunk]), torch.tensor([False])
    _, _, state = stream(torch.zeros(1, 40, dtype=torch.long), torch.tensor([40]), last, stream.initial_state(1))
    return lambda: stream(codes, lengths, last, state)


def report(codec: Codec, repeats: int) -> dict[str, float]:
    peak, flops, rate = peak_gflops(), flops_per_code(codec), codec.config.sample_rate / codec.config.hop_length
    overlapping = torch.randint(codec.config.codes, (1, OVERLAP + CHUNK + OVERLAP))
    ours, ours_least = median_ms(incremental(codec, CHUNK), repeats)
    naive, naive_least = median_ms(lambda: codec.decode(overlapping), repeats)
    small, small_least = median_ms(incremental(codec, 8), 2 * repeats)
    floor = 1e3 * CHUNK * flops / (peak * 1e9)
    seconds = CHUNK / rate
    return {
        "machine_peak_gflops": peak,
        "mflop_per_code": flops / 1e6,
        "floor_ms_per_chunk": floor,
        "ours_ms_per_chunk": ours,
        "ours_ms_per_chunk_least": ours_least,
        "ours_share_of_peak": floor / ours_least,
        "ours_real_time_factor": ours / 1e3 / seconds,
        "naive_ms_per_chunk": naive,
        "naive_ms_per_chunk_least": naive_least,
        "ours_ms_per_8_codes": small,
        "ours_ms_per_8_codes_least": small_least,
        "held_back_ms": 1e3 * CodecStream(codec).delay_samples / codec.config.sample_rate,
    }


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mini", type=Path, help="folder of a trained codec")
    parser.add_argument("--repeats", type=int, default=8)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    results = {"published": report(Codec(CodecConfig()).eval(), arguments.repeats)}
    if arguments.mini:
        mini = Codec(from_mapping(CodecConfig, stage_config(arguments.mini)["model"], str(arguments.mini))).eval()
        load_into(mini, arguments.mini, "codec")
        results["mini"] = report(mini, 4 * arguments.repeats)
    print(json.dumps({k: {n: round(v, 4) for n, v in each.items()} for k, each in results.items()}, indent=2))


if __name__ == "__main__":
    main()

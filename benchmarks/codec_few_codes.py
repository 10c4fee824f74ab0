"""What a call of a codec's stream costs on one CPU thread: in NumPy, in torch, and the multiplications alone.

    python benchmarks/codec_few_codes.py                  # the bundled codec
    python benchmarks/codec_few_codes.py --published      # the published size, random weights

The first table calls either with the same number of codes again and again, turn by turn, and gives the least CPU time;
torch then has its kernels ready. The second is nearer to a server: no call is as long as the one before, oneDNN keeps
as many kernels as ``icebreaker serve`` allows it, and all calls count. The last is a segment's first call, in which
NumPy leaves out what lies before the segment; its floor is that of codes in the middle.
"""

import argparse
import random
import time

from icebreaker.engine.allocator import bound_caches

bound_caches()  # before torch is asked for anything

import torch  # noqa: E402
from codec import flops_per_code, peak_gflops  # noqa: E402

from icebreaker.models.codec import Codec, CodecConfig  # noqa: E402
from icebreaker.models.codec_stream import CodecStream  # noqa: E402
from icebreaker.talking import load_dialogue  # noqa: E402

BATCHES, LENGTHS = (1, 2, 4, 8), (4, 8, 16, 24)
FIRST_LENGTHS = (8, 15, 21)  # the engine's first piece is 0.2 s: 8 codes, and 13 that are held back


def cpu_ms(stream: CodecStream, batch: int, length: int, fed: int = 100) -> float:
    """One call after ``fed`` codes of a segment."""
    codes = torch.randint(stream.codec.config.codes, (batch, length))
    state = stream.initial_state(batch)._replace(fed=torch.full((batch,), fed))
    started = time.process_time()
    stream(codes, torch.full((batch,), length), torch.zeros(batch, dtype=torch.bool), state)
    return 1e3 * (time.process_time() - started)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--calls", type=int, default=40, help="of each batch, in the second table")
    parser.add_argument("--published", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    codec = Codec(CodecConfig()) if arguments.published else load_dialogue("mini", None).parts.codec
    ours, plain = CodecStream(codec), CodecStream(codec)
    plain.few_codes = None
    flops = flops_per_code(codec)
    print("always the same length: ms a call\n  B   T   numpy   torch  ratio   floor")
    for batch in BATCHES:
        for length in LENGTHS:
            least = [float("inf")] * 2
            for _ in range(arguments.repeats):
                least = [min(ms, cpu_ms(each, batch, length)) for ms, each in zip(least, (ours, plain), strict=True)]
            floor = batch * length * flops / (peak_gflops() * 1e6)
            print(f"{batch:3d} {length:3d} {least[0]:7.2f} {least[1]:7.2f} {least[1] / least[0]:6.2f} {floor:7.2f}")
    print("\never another length from 4 to 24: ms a code\n  B   numpy   torch  ratio   floor")
    dice, lengths = random.Random(0), dict[int, list[int]]()
    spent = {batch: [0.0, 0.0] for batch in BATCHES}
    for _ in range(arguments.calls):
        for batch in BATCHES:
            length = dice.randint(4, 24)
            lengths.setdefault(batch, []).append(length)
            for index, each in enumerate((ours, plain)):
                spent[batch][index] += cpu_ms(each, batch, length)
    floor = flops / (peak_gflops() * 1e6)
    for batch, (new, old) in spent.items():
        codes = batch * sum(lengths[batch])
        print(f"{batch:3d} {new / codes:7.2f} {old / codes:7.2f} {old / new:6.2f} {floor:7.2f}")
    print("\nthe first codes of a segment: ms a call\n  T   numpy   torch  ratio   floor")
    for length in FIRST_LENGTHS:
        new, old = (min(cpu_ms(each, 1, length, 0) for _ in range(arguments.repeats)) for each in (ours, plain))
        print(f"{length:3d} {new:7.2f} {old:7.2f} {old / new:6.2f} {length * floor:7.2f}")


if __name__ == "__main__":
    main()

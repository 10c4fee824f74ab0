"""One streaming step of the encoder at the published sizes, one thread, against a plain implementation and the floor.

    OMP_NUM_THREADS=1 python benchmarks/encoder.py [repetitions]

Times are CPU time of this process, so that other processes cost little; the median and the best of interleaved
repetitions, random weights, cache full. "plain" follows the description of the released code: it joins caches by
``torch.cat``, projects the position rows of every key at every chunk and multiplies contents and positions apart. The
floor reads every weight once at the measured bandwidth, or does every multiplication at the measured peak of a large
matrix product, whichever takes longer, layer by layer. The CMVN, norms, softmax and caches are free in it.
"""

import copy
import statistics
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from icebreaker.models.encoder import Encoder, EncoderConfig
from icebreaker.nn.packed import pack_linears
from icebreaker.nn.positions import sinusoid

FRAMES, CACHED, BLOCK = 4, 64, 16
PAIRS = list[tuple[Tensor, Tensor]]


def main(repetitions: int = 7) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with torch.no_grad():
        ours, official = build("absolute"), build("official")
        official.load_state_dict(ours.state_dict(), assign=True)  # the same storage
        half, single = pack_linears(shell(ours), "float16"), pack_linears(shell(ours), "float32")
        half_official = pack_linears(shell(official), "float16", keep=("position",))
        large, matrix = torch.randn(50_000_000), torch.randn(1024, 1024)
        table = sinusoid(torch.arange(5000), ours.config.width)
        cases = {
            "read bandwidth": lambda: large.sum(),
            "matrix product": lambda: matrix @ matrix,
            "plain": plain_step(ours, table),
            "ours, official positions": step(official),
            "ours": step(ours),
            "ours, packed float32": step(single),
            "ours, official positions, packed float16": step(half_official),
            "ours, packed float16": step(half),
        }
        times = interleave(cases, repetitions)
    bandwidth = large.nbytes / min(times.pop("read bandwidth"))
    peak = 2 * 1024**3 / min(times.pop("matrix product"))
    floors = {bytes_: floor(ours, bandwidth, peak, bytes_) for bytes_ in (4, 2)}
    print(f"reads {bandwidth / 1e9:.1f} GB/s, multiplies {peak / 1e9:.1f} GFLOP/s, real time is 160 ms a step")
    print(f"floor: {floors[4] * 1e3:.1f} ms with float32 weights, {floors[2] * 1e3:.1f} ms with float16 weights\n")
    print("| one 160 ms block | median ms | best ms | best / plain | best / floor |")
    print("| --- | --- | --- | --- | --- |")
    for name, seconds in times.items():
        best, middle = min(seconds), statistics.median(seconds)
        ratio, over = best / min(times["plain"]), best / floors[2 if "float16" in name else 4]
        print(f"| {name} | {middle * 1e3:.1f} | {best * 1e3:.1f} | {ratio:.2f} | {over:.2f} |")


def build(positions: str) -> Encoder:
    with torch.device("meta"):
        encoder = Encoder(EncoderConfig(positions=positions))
    encoder.to_empty(device="cpu")
    noise = torch.randn(1021) * 0.02  # repeated: drawing 358 million numbers takes longer than the benchmark
    for parameter in encoder.parameters():
        parameter.copy_(noise.repeat(parameter.numel() // 1021 + 1)[: parameter.numel()].view_as(parameter))
    encoder.mean.zero_()
    encoder.istd.fill_(1.0)
    return encoder.eval().requires_grad_(False)


def shell(encoder: Encoder) -> Encoder:
    return copy.deepcopy(encoder, {id(parameter): parameter for parameter in encoder.parameters()})  # weights shared


def interleave(cases: dict[str, Callable[[], object]], repetitions: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in cases}
    for repetition in range(repetitions + 1):
        for name, run in cases.items():
            start = time.process_time()
            run()
            if repetition:  # the first round warms up
                times[name].append(time.process_time() - start)
    return times


def step(encoder: nn.Module) -> Callable[[], object]:
    state = encoder.initial_state(1)
    state = encoder(torch.randn(1, BLOCK * 18, 80), state)[1]
    block = torch.randn(1, BLOCK, 80)
    return lambda: encoder(block, state)


def floor(encoder: Encoder, bandwidth: float, peak: float, bytes_per_weight: int) -> float:
    seconds = 0.0
    for module in encoder.modules():
        if isinstance(module, nn.Linear):
            count = module.weight.numel()
            seconds += max(count * bytes_per_weight / bandwidth, 2 * FRAMES * count / peak)
    conv = encoder.subsampling.conv2.weight.numel()
    return seconds + max(4 * conv / bandwidth, 2 * FRAMES * 19 * conv / peak)


def plain_step(encoder: Encoder, table: Tensor) -> Callable[[], object]:
    config = encoder.config
    shape = (1, config.heads, CACHED, config.width // config.heads)
    caches: PAIRS = [(torch.randn(shape), torch.randn(shape)) for _ in encoder.layers]
    features = torch.randn(1, BLOCK + 3, 80)
    return lambda: plain(encoder, features, list(caches), table)


def plain(encoder: Encoder, features: Tensor, caches: PAIRS, table: Tensor) -> Tensor:
    heads = encoder.config.heads
    subsampling = encoder.subsampling
    x = F.relu(subsampling.conv1(((features - encoder.mean) * encoder.istd).unsqueeze(1)))
    x = subsampling.linear(F.relu(subsampling.conv2(x)).transpose(1, 2).flatten(2))
    x = encoder.embed(x) * encoder.config.width**0.5
    rows = table[100 : 100 + CACHED + FRAMES].unsqueeze(0)

    def split(y: Tensor) -> Tensor:
        return y.view(1, -1, heads, y.shape[-1] // heads).transpose(1, 2)

    for i, layer in enumerate(encoder.layers):
        attention, y = layer.attention, layer.attention_norm(x)
        query = split(attention.query(y))
        key = torch.cat([caches[i][0], split(attention.key(y))], dim=2)
        value = torch.cat([caches[i][1], split(attention.value(y))], dim=2)
        caches[i] = (key[:, :, -CACHED:], value[:, :, -CACHED:])
        position = split(attention.position(rows))
        content_scores = (query + attention.content_bias.unsqueeze(1)) @ key.mT
        position_scores = (query + attention.position_bias.unsqueeze(1)) @ position.mT
        scores = (content_scores + position_scores) / query.shape[-1] ** 0.5
        x = x + attention.out((scores.softmax(-1) @ value).transpose(1, 2).reshape(1, FRAMES, -1))
        feed_forward = layer.feed_forward
        x = x + feed_forward.down(F.relu(feed_forward.up(layer.feed_forward_norm(x))))
    return encoder.final_norm(x)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

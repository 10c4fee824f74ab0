"""One autoregressive step of the speech decoder at the published sizes, random weights, float32, one thread.

Three figures: ours; a straightforward version (separate projections, keys and values concatenated at every step,
explicit softmax); and the floor, the time to read the weights of a step once at the memory bandwidth measured here.

    OMP_NUM_THREADS=1 python benchmarks/codec_lm.py [--hidden 896] [--steps 60]
"""

import argparse
import json
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from icebreaker.models.codec_lm import CodecLM, CodecLMConfig
from icebreaker.nn.llama import rope

PREFIX_VECTORS, CONTEXT_VECTORS = 25, 10  # LLM positions: 100 and 40 decoder positions


class PlainLayer(nn.Module):
    """One layer as textbooks write it; its weights are views of nothing, so it reads what it must and no more."""

    def __init__(self, width: int, heads: int, linear_units: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ParameterList([torch.ones(width), torch.ones(width)])
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.gate, self.up = (nn.Linear(width, linear_units, bias=False) for _ in range(2))
        self.down = nn.Linear(linear_units, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: list[Tensor]) -> Tensor:
        normed = self.norm(x, 0)
        query, key, value = (self.cut(project(normed)) for project in (self.q, self.k, self.v))
        query, key = (y * cos + self.rotate_half(y) * sin for y in (query, key))
        cache[0], cache[1] = torch.cat([cache[0], key], dim=2), torch.cat([cache[1], value], dim=2)
        scores = query @ cache[0].mT / key.shape[-1] ** 0.5
        attended = scores.float().softmax(dim=-1) @ cache[1]
        x = x + self.o(attended.transpose(1, 2).flatten(2))
        normed = self.norm(x, 1)
        return x + self.down(F.silu(self.gate(normed)) * self.up(normed))

    def norm(self, x: Tensor, index: int) -> Tensor:
        return self.norms[index] * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))

    def cut(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def rotate_half(self, x: Tensor) -> Tensor:
        one, two = x.chunk(2, dim=-1)
        return torch.cat([-two, one], dim=-1)


def median_ms(times: list[float]) -> float:
    return 1000 * sorted(times)[len(times) // 2]


@torch.no_grad()
def ours(model: CodecLM, steps: int) -> list[float]:
    width = model.config.llm_dim
    text, prefix = torch.randn(1, CONTEXT_VECTORS, width), torch.randn(1, PREFIX_VECTORS, width)
    lengths = torch.tensor([CONTEXT_VECTORS]), torch.tensor([PREFIX_VECTORS])
    state = model.prefill(text, lengths[0], prefix, lengths[1])
    code, times = torch.tensor([model.config.sos]), []
    for _ in range(steps):
        start = time.perf_counter()
        logits, state = model.step(code, state)
        code = logits.argmax(dim=-1)
        times.append(time.perf_counter() - start)
    return times


@torch.no_grad()
def plain(config: CodecLMConfig, steps: int) -> list[float]:
    layers = [PlainLayer(config.hidden, config.heads, config.linear_units) for _ in range(config.blocks)]
    embedding, head = nn.Embedding(config.vocab_size, config.hidden), nn.Linear(config.hidden, config.vocab_size)
    size = config.hidden // config.heads
    used = config.split * (PREFIX_VECTORS + CONTEXT_VECTORS) + 1
    caches = [[torch.randn(1, config.heads, used, size) for _ in range(2)] for _ in layers]
    code, times = torch.tensor([[config.sos]]), []
    for step in range(steps):
        start = time.perf_counter()
        cos, sin = rope(torch.tensor([[41 + step]]), size)
        x = embedding(code)
        for layer, cache in zip(layers, caches, strict=True):
            x = layer(x, cos, sin, cache)
        code = head(layers[0].norm(x, 0)).argmax(dim=-1)
        times.append(time.perf_counter() - start)
    return times


def floor(model: CodecLM) -> tuple[float, float]:
    """Bytes of the weights of a step, and the best bandwidth at which a sum can read as many."""
    size = sum(p.numel() * p.element_size() for module in (model.layers, model.head) for p in module.parameters())
    block, times = torch.ones(size // 4), []
    for _ in range(20):
        start = time.perf_counter()
        block.sum()
        times.append(time.perf_counter() - start)
    return size, size / min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = CodecLMConfig()
    model = CodecLM(config).eval()
    size, bandwidth = floor(model)
    figures = {
        "ours_ms": median_ms(ours(model, steps)[5:]),
        "plain_ms": median_ms(plain(config, steps)[5:]),
        "ours_again_ms": median_ms(ours(model, steps)[5:]),
        "floor_ms": 1000 * size / bandwidth,
        "weight_megabytes": size / 1e6,
        "bandwidth_gigabytes_per_s": bandwidth / 1e9,
    }
    print(json.dumps({name: round(value, 2) for name, value in figures.items()}))


if __name__ == "__main__":
    main()

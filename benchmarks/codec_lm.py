"""One autoregressive step of the speech decoder at the published sizes, random weights, float32, one thread.

Three figures: ours; a straightforward version (separate projections, keys and values concatenated at every step,
explicit softmax); and the floor, the time to sum as many bytes as a step has weights. The three take turns, so that a
busy machine is as busy for each; medians, and the best of all rounds.

    OMP_NUM_THREADS=1 python benchmarks/codec_lm.py [--steps 60]
"""

import argparse
import json
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from icebreaker.models.codec_lm import CodecLM, CodecLMConfig

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


class Ours:
    """A running generation of our decoder."""

    def __init__(self, model: CodecLM) -> None:
        width = model.config.llm_dim
        text, prefix = torch.randn(1, CONTEXT_VECTORS, width), torch.randn(1, PREFIX_VECTORS, width)
        lengths = torch.tensor([CONTEXT_VECTORS]), torch.tensor([PREFIX_VECTORS])
        self.model, self.state = model, model.prefill(text, lengths[0], prefix, lengths[1])
        self.code = torch.tensor([model.config.sos])

    def step(self) -> None:
        logits, self.state = self.model.step(self.code, self.state)
        self.code = logits.argmax(dim=-1)


class Plain:
    """A running generation of the textbook decoder."""

    def __init__(self, config: CodecLMConfig) -> None:
        sizes = config.hidden, config.heads, config.linear_units
        self.layers = [PlainLayer(*sizes) for _ in range(config.blocks)]
        self.embedding, self.head = (
            nn.Embedding(config.vocab_size, config.hidden),
            nn.Linear(config.hidden, config.vocab_size),
        )
        self.size = config.hidden // config.heads
        used = config.split * (PREFIX_VECTORS + CONTEXT_VECTORS) + 1
        self.caches = [[torch.randn(1, config.heads, used, self.size) for _ in range(2)] for _ in self.layers]
        self.code, self.position = torch.tensor([[config.sos]]), config.split * CONTEXT_VECTORS + 1

    @torch.no_grad()
    def step(self) -> None:
        angles = self.position / 10_000 ** (torch.arange(0, self.size, 2) / self.size)
        cos, sin = torch.cat([angles, angles]).cos(), torch.cat([angles, angles]).sin()
        x = self.embedding(self.code)
        for layer, cache in zip(self.layers, self.caches, strict=True):
            x = layer(x, cos, sin, cache)
        self.code = self.head(self.layers[0].norm(x, 0)).argmax(dim=-1)
        self.position += 1


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = CodecLMConfig()
    model = CodecLM(config).eval()
    size = sum(p.numel() * p.element_size() for module in (model.layers, model.head) for p in module.parameters())
    block = torch.ones(size // 4)
    works = {"ours": Ours(model).step, "plain": Plain(config).step, "floor": block.sum}
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(steps + 3):
        for name, work in works.items():
            times[name].append(seconds(work))
    figures = {}
    for name, values in times.items():
        ordered = sorted(values[3:])
        figures[f"{name}_ms"], figures[f"{name}_best_ms"] = 1000 * ordered[steps // 2], 1000 * ordered[0]
    figures["weight_megabytes"] = size / 1e6
    figures["bandwidth_gigabytes_per_s"] = size / min(times["floor"]) / 1e9
    print(json.dumps({name: round(value, 2) for name, value in figures.items()}))


if __name__ == "__main__":
    main()

"""Tokens per second of our decode loop against transformers' ``generate``, and against the memory it must read.

``ours`` is what a dialogue does on a CPU: steps in NumPy (``models/llm_few_tokens.py``), for which a large model's
weights are packed in float16 (``nn/packed.py``); ``in_torch`` is the same loop without either. The floor is that of the
weights as ours keeps them.

Run: python benchmarks/llm_decode.py [--tokens 48]. Greedy, batch 1, float32, random weights, one thread, whose own CPU
time is counted: what other processes do at the same time then hardly matters.
"""

import argparse
import json
import time
from collections.abc import Callable

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from icebreaker.models.llm import LLM
from icebreaker.models.llm_few_tokens import few_tokens_of
from icebreaker.models.sampling import GREEDY, sample
from icebreaker.nn.packed import PackedLinear
from icebreaker.talking import pack_large

SHAPES = {
    "mini backbone, 3.7M": {"hidden_size": 256, "layers": 4, "heads": 4, "kv": 2, "ffn": 768, "vocab": 2048},
    "88M": {"hidden_size": 768, "layers": 12, "heads": 12, "kv": 2, "ffn": 2304, "vocab": 8192},
}
PROMPT = 64


class NoTokenizer:
    """Stands in for a tokenizer: greedy decoding of random weights needs none."""

    eos_token_id = None


def build(shape: dict[str, int]) -> LLM:
    """The same weights at each call."""
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=shape["vocab"],
            hidden_size=shape["hidden_size"],
            num_hidden_layers=shape["layers"],
            num_attention_heads=shape["heads"],
            num_key_value_heads=shape["kv"],
            intermediate_size=shape["ffn"],
            tie_word_embeddings=True,
            eos_token_id=None,
            bos_token_id=None,
            pad_token_id=0,
        )
    )
    for parameter in model.parameters():
        parameter.data = parameter.half().float()  # as bundles store them
    return LLM(model, NoTokenizer())


def served(llm: LLM) -> LLM:
    """``llm`` itself, as it is when it has been loaded for talking."""
    pack_large(llm)
    if (steps := few_tokens_of(llm)) is not None:
        llm.ticks, llm.few_logits = steps, steps.logits
    return llm


@torch.inference_mode()
def loop(llm: LLM, ids: torch.Tensor, tokens: int) -> list[int]:
    """Greedy ids after a prompt [1, L], by our cache."""
    cache = llm.new_cache(1, 1024)
    hidden, cache = llm(llm.embed(ids), cache, torch.tensor([ids.shape[1]]))
    one, drawn = torch.ones(1, dtype=torch.long), []
    for _ in range(tokens):
        token = sample(llm.logits(hidden[:, -1]), GREEDY)
        drawn.append(int(token))
        hidden, cache = llm(llm.embed(token[:, None]), cache, one)
    return drawn


@torch.inference_mode()
def theirs(llm: LLM, ids: torch.Tensor, tokens: int) -> list[int]:
    """The same by ``generate``."""
    output = llm.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False)
    return output[0, ids.shape[1] :].tolist()


def best(call: Callable[[], object], repeats: int = 3) -> float:
    """Shortest of several runs in CPU seconds of this thread."""
    call()
    times = []
    for _ in range(repeats):
        started = time.thread_time()
        call()
        times.append(time.thread_time() - started)
    return min(times)


def rate(decode: Callable[[LLM, torch.Tensor, int], list[int]], llm: LLM, ids: torch.Tensor, tokens: int) -> float:
    """Tokens per second after the prompt, which is the same work for all."""
    short, long = (best(lambda count=count: decode(llm, ids, count)) for count in (2, 2 + tokens))
    return tokens / (long - short)


def bandwidth() -> float:
    """Bytes per second that matrix times vector reads from a weight far larger than the caches."""
    weight, vector = torch.randn(4096, 8192), torch.randn(8192)
    return weight.nbytes / best(lambda: weight @ vector, 9)


def main() -> None:
    """Print a JSON line a shape."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=48)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with torch.inference_mode():
        bytes_per_second = bandwidth()
    print(json.dumps({"threads": 1, "memory_gb_s": round(bytes_per_second / 1e9, 1)}))
    for name, shape in SHAPES.items():
        plain, ours = build(shape), served(build(shape))
        ids = torch.randint(1, shape["vocab"], (1, PROMPT))
        same = loop(ours, ids, arguments.tokens) == theirs(plain, ids, arguments.tokens)
        ways = {"ours": (loop, ours), "in_torch": (loop, plain), "theirs": (theirs, plain)}
        rates = {f"{way}_tokens_s": round(rate(*each, ids, arguments.tokens), 1) for way, each in ways.items()}
        weights = sum(p.nbytes for p in plain.model.parameters())  # tied: the one matrix is read as the head
        halved = any(isinstance(layer, PackedLinear) for layer in ours.modules())
        floor = round(bytes_per_second / (weights / 2 if halved else weights), 1)
        print(
            json.dumps({"shape": name, "parameters": weights // 4, "same_ids": same, **rates, "floor_tokens_s": floor})
        )


if __name__ == "__main__":
    main()

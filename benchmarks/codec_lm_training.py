"""A training step of the speech decoder on one CPU thread: attention in its parts against torch's fused kernel.

    OMP_NUM_THREADS=1 python benchmarks/codec_lm_training.py [--rows 16] [--codes 96] [--tokens 15]

mini's shape, random weights and codes, bfloat16 where autocast has it, forward and back. The floor is the step's
multiplications at the speed that this core reaches on a large bfloat16 matrix product, measured in the same run.
"""

import argparse
import time
from collections.abc import Callable
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from icebreaker.models import codec_lm
from icebreaker.models.codec_lm import CodecLM, CodecLMConfig
from icebreaker.models.codec_lm_loss import cross_entropy, targets

MINI = CodecLMConfig(llm_dim=256, hidden=192, linear_units=512, heads=3, prefix=False)
ROUNDS = 12


def best_ms(run: Callable[[], object]) -> float:
    """Milliseconds of the quickest of some rounds."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - start))
    return min(times)


def fused(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def flops(config: CodecLMConfig, rows: int, codes: int, tokens: int) -> float:
    """Of one step: every weight once a position forward and twice back, and what attention multiplies."""
    layer = config.hidden * (4 * config.hidden + 3 * config.linear_units)
    context, speech = 1 + config.split * tokens, 1 + codes
    read, said = config.pre_blocks * layer, config.blocks * layer
    weights = context * read + (context + speech) * said + speech * config.hidden * config.vocab_size
    seen = 2 * config.hidden * (config.pre_blocks * context**2 + config.blocks * (context + speech) ** 2)
    return 6.0 * rows * (weights + seen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rows", 16), ("codes", 96), ("tokens", 15)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = CodecLM(MINI)
    text = torch.randn(options.rows, options.tokens, MINI.llm_dim)
    codes = torch.randint(MINI.codes, (options.rows, options.codes))
    lengths = torch.full((options.rows,), options.tokens), torch.full((options.rows,), options.codes)
    expected = targets(codes, lengths[1], MINI)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            taught = model(text, lengths[0], codes, lengths[1])
        cross_entropy(taught.logits, expected, MINI).backward()

    wide = torch.randn(2048, 2048).bfloat16()
    speed = 2 * 2048**3 / best_ms(lambda: wide @ wide)  # FLOPs a millisecond
    ours = best_ms(step)
    with patch.object(codec_lm, "attend", fused), patch("icebreaker.nn.llama.attend", fused):
        naive = best_ms(step)
    floor = flops(MINI, options.rows, options.codes, options.tokens) / speed
    print("| rows | step, ms | with the fused kernel, ms | ratio | floor, ms | of the floor |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    print(f"| {options.rows} | {ours:.0f} | {naive:.0f} | {naive / ours:.2f} | {floor:.0f} | {floor / ours:.0%} |")


if __name__ == "__main__":
    main()

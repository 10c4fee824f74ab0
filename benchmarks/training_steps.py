"""A training step of the speech decoder and of the encoder on one CPU thread: attention in its parts against torch's
fused kernel.

    OMP_NUM_THREADS=1 python benchmarks/training_steps.py

mini's shapes, random weights and inputs, bfloat16 where autocast has it, forward and back. The floor is the step's
multiplications at the speed that this core reaches on a large bfloat16 matrix product, measured in the same run.
"""

import contextlib
import time
from collections.abc import Callable
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from icebreaker.models.codec_lm import CodecLM, CodecLMConfig
from icebreaker.models.codec_lm_loss import cross_entropy, targets
from icebreaker.models.encoder import Encoder, EncoderConfig

DECODER = CodecLMConfig(llm_dim=256, hidden=192, linear_units=512, heads=3, prefix=False)
ENCODER = EncoderConfig(
    subsampling_dim=64, width=192, heads=4, feed_forward_dim=768, layers=10, position_encoding="abs-enc",
    dropout=0.0, positional_dropout=0.0,
)  # fmt: skip
ANSWERS, TOKENS, CODES = 16, 15, 96
QUESTIONS, FEATURES = 12, 380  # feature frames of 10 ms
BACK = 3.0  # times the forward pass: there, and back twice
MODULES = ("nn.llama", "models.codec_lm", "models.encoder_layers")  # that attend
ROUNDS = 12


def best_ms(run: Callable[[], object]) -> float:
    """Milliseconds of the quickest of some rounds."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - start))
    return min(times)


def fused(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *,
    dropout: float = 0.0, scale: float | None = None,
) -> Tensor:  # fmt: skip
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale)


def decoder_step() -> tuple[Callable[[], object], float]:
    """One step of stage codec_lm, and its FLOPs: every weight once a position, and what attention multiplies."""
    config, model = DECODER, CodecLM(DECODER)
    text, codes = torch.randn(ANSWERS, TOKENS, config.llm_dim), torch.randint(config.codes, (ANSWERS, CODES))
    lengths = torch.full((ANSWERS,), TOKENS), torch.full((ANSWERS,), CODES)
    expected = targets(codes, lengths[1], config)

    def step() -> None:
        taught = model(text, lengths[0], codes, lengths[1])
        cross_entropy(taught.logits, expected, config).backward()

    layer = config.hidden * (4 * config.hidden + 3 * config.linear_units)
    context, speech = 1 + config.split * TOKENS, 1 + CODES
    read, said = config.pre_blocks * layer, config.blocks * layer
    weights = context * read + (context + speech) * said + speech * config.hidden * config.vocab_size
    seen = 2 * config.hidden * (config.pre_blocks * context**2 + config.blocks * (context + speech) ** 2)
    return step, 2 * BACK * ANSWERS * (weights + seen)


def encoder_step() -> tuple[Callable[[], object], float]:
    """Forward and back through the encoder, and its FLOPs; of attention all pairs, as both ways compute them."""
    config, model = ENCODER, Encoder(ENCODER)
    model.subsampling.to(memory_format=torch.channels_last)  # as the stages have it
    fbank, lengths = torch.randn(QUESTIONS, FEATURES, config.mel_bins), torch.full((QUESTIONS,), FEATURES)

    def step() -> None:
        frames, _ = model.encode(fbank, lengths)
        frames.square().mean().backward()

    frames, bins, channels = FEATURES // 4, config.mel_bins, config.subsampling_dim
    convolved = 9 * channels * (2 * frames * bins // 2 + channels * frames * bins // 4)
    projected = frames * channels * (channels * bins // 4 + config.width)
    layer = config.width * (4 * config.width + 2 * config.feed_forward_dim)
    layers = config.layers * (frames * layer + 2 * config.width * frames**2)
    return step, 2 * BACK * QUESTIONS * (convolved + projected + layers)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    wide = torch.randn(2048, 2048).bfloat16()
    speed = 2 * 2048**3 / best_ms(lambda: wide @ wide)  # FLOPs a millisecond
    print("| step of | rows | ms | with the fused kernel, ms | ratio | floor, ms | of the floor |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, rows, prepare in (("speech decoder", ANSWERS, decoder_step), ("encoder", QUESTIONS, encoder_step)):
        step, flops = prepare()
        with torch.autocast("cpu", torch.bfloat16):
            ours = best_ms(step)
            with contextlib.ExitStack() as stack:
                for module in MODULES:
                    stack.enter_context(patch(f"icebreaker.{module}.attend", fused))
                naive = best_ms(step)
        floor = flops / speed
        print(f"| {name} | {rows} | {ours:.0f} | {naive:.0f} | {naive / ours:.2f} | {floor:.0f} | {floor / ours:.0%} |")


if __name__ == "__main__":
    main()

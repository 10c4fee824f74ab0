"""Stage: what trained ears make of training recordings, written down for stage backbone. Trains nothing (ours).

A text LLM of some million parameters takes every misheard token at its word. ``mishearing.py`` draws errors that ears
might make; this writes those that they do make, at the pace of the recording: one token or pause for each of the
adapter's vectors. The LLM that then reads them (``mix.heard``) is frozen before any speech stage begins, as ever.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from icebreaker.config import to_mapping
from icebreaker.errors import DataError
from icebreaker.training.devices import device_of, moved
from icebreaker.training.ears import load_ears
from icebreaker.training.heard_pool import draw
from icebreaker.training.heard_rows import PAUSE
from icebreaker.training.loop import StepReport
from icebreaker.training.speech_batches import SpeechConfig, SpeechSource

__all__ = ["HeardTextConfig", "run"]

ROWS = "heard.jsonl"


@dataclass(frozen=True, kw_only=True)
class HeardTextConfig:
    """Whose ears, and of what; cuts and variations as in training."""

    stage: str = "heard_text"
    output: Path
    alignment: Path  # folder of stage alignment, whose adapter looks tokens up
    data: SpeechConfig
    recordings: int = 20_000
    device: str = "auto"


def run(config: HeardTextConfig, progress: Callable[[StepReport], None] = lambda report: None) -> None:
    """Write ``heard.jsonl``, {"text", "tokens"} a line, into ``config.output``; whole or not at all.

    Raises:
        DataError: the ears do not hear in tokens.
    """
    ears = load_ears(config.alignment).eval().to(device_of(config))
    lookup, encoder = ears.adapter.lookup, ears.encoder.config
    if lookup is None:
        raise DataError(f"{config.alignment}: its adapter has no vocabulary, so there are no tokens to write down")
    config.output.mkdir(parents=True, exist_ok=True)
    done, aside = 0, config.output / f"{ROWS}.partial"
    with aside.open("w") as file, torch.inference_mode():
        for batch in draw(SpeechSource(config.data, with_answer=True), config.recordings):
            there = moved(batch, lookup.tokens.device)
            heard = ears(there.fbank, there.lengths, (encoder.chunk_size, encoder.left_chunks))
            for item, vectors in zip(batch.items, heard.vectors, strict=True):
                tokens = (lookup.logits(vectors).argmax(dim=-1) + PAUSE).tolist()  # a pause is the first of them
                file.write(json.dumps({"text": item.text, "tokens": tokens}) + "\n")
            done += len(batch.items)
            progress(StepReport(min(done, config.recordings), 0.0, 0.0, 0.0, {}, config.recordings))
    os.replace(aside, config.output / ROWS)
    (config.output / "config.json").write_text(json.dumps(to_mapping(config), indent=2) + "\n")

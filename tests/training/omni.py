"""Tiny spoken questions with answers and units, and tiny ears, for the tests of LLaMA-Omni's stages."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import speech
import tiny_folder
import torch
from safetensors.torch import load_file
from transformers import WhisperConfig, WhisperModel

from icebreaker.config import to_mapping
from icebreaker.data.manifest import read_manifest
from icebreaker.models.encoder import Encoder, EncoderConfig
from icebreaker.models.speech_adaptor import SpeechAdaptorConfig
from icebreaker.models.unit_ctc import UnitCTCConfig
from icebreaker.training.instruct_batches import QuestionConfig
from icebreaker.training.llm_tuning import TuningConfig
from icebreaker.training.loop import OptimConfig
from icebreaker.training.speech_instruct import SpeechInstructConfig
from icebreaker.training.stage_files import save_stage

ENCODER = EncoderConfig(
    subsampling_dim=8, width=12, heads=2, feed_forward_dim=16, layers=1, position_encoding="abs-enc", dropout=0.0,
    positional_dropout=0.0,
)  # fmt: skip
UNITS = 5
DECODER = UnitCTCConfig(
    llm_dim=32, width=16, layers=1, heads=2, linear_units=24, units=UNITS, upsample=3, rope_scaling=None
)  # fmt: skip
OPTIM = OptimConfig(steps=4, lr=1e-2, warmup=1, log_every=1, save_every=1, accumulate=2)


def write(folder: Path) -> None:
    """``llm``, ``encoder``, ``questions/manifest.jsonl`` and ``units.jsonl`` under ``folder``."""
    tiny_folder.write_llm(folder / "llm")
    manifest, _ = speech.write_questions(folder / "questions")
    torch.manual_seed(0)
    (folder / "encoder").mkdir()
    save_stage(folder / "encoder", {"encoder": Encoder(ENCODER)}, {"encoder": to_mapping(ENCODER)})
    with (folder / "units.jsonl").open("w") as file:
        for item in read_manifest(Path(manifest)):
            units = units_of(item.answer or "")
            file.write(json.dumps({"id": item.id, "units": units, "durations": [1] * len(units)}) + "\n")


def write_whisper(folder: Path) -> Path:
    """A random Whisper in a Hugging Face folder; returns it."""
    torch.manual_seed(0)
    sizes = WhisperConfig(
        d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=8, num_mel_bins=80, vocab_size=50,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    WhisperModel(sizes).save_pretrained(folder)
    return folder


def units_of(text: str) -> list[int]:
    """A unit for each letter, told by the letter."""
    return [int(u) for u in np.frombuffer(text.encode(), dtype=np.uint8) % UNITS]


def stage_one(folder: Path, **changes: Any) -> SpeechInstructConfig:
    """Stage speech_instruct on what ``write`` left in ``folder``, with a frozen LLM."""
    config = SpeechInstructConfig(
        output=folder / "out", llm=folder / "llm", encoder=folder / "encoder",
        adaptor=SpeechAdaptorConfig(encoder_dim=12, llm_dim=32, stride=5, hidden=24),
        questions=QuestionConfig(manifest=folder / "questions" / "manifest.jsonl", rows=4, keep_frames=True),
        optim=OPTIM, tuning=TuningConfig(mode="frozen"), instruction=" Answer.", evaluate_questions=4, max_new_tokens=4,
    )  # fmt: skip
    return replace(config, **changes)


def stopping_at(step: int) -> Callable[[Any], None]:
    """A ``progress`` that ends the run as Ctrl-C does."""

    def stop(report: Any) -> None:
        if report.step == step:
            raise KeyboardInterrupt

    return stop


def stopped_and_resumed(run: Callable[..., None], config: Any) -> Any:
    """Run ``config`` in another folder with a stop at step 3; returns its configuration."""
    stopped = replace(config, output=config.output.with_name("stopped"))
    with pytest.raises(KeyboardInterrupt):
        run(stopped, stopping_at(3))
    run(stopped)
    return stopped


def same_weights(one: Path, other: Path) -> bool:
    """Whether two safetensors files hold the same, to the bit."""
    ours, theirs = load_file(one), load_file(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)

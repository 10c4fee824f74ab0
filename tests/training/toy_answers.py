"""Recorded answers at toy size for stages codec_lm and codec: codes and word times, and beeps to make codes of."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np

from icebreaker.audio.pcm import save_wav
from icebreaker.data.manifest import Item, write_manifest
from icebreaker.models.codec import CodecConfig
from icebreaker.models.codec_lm import CodecLMConfig
from icebreaker.training import codec_lm
from icebreaker.training.codec import AdversaryConfig, CodecTrainingConfig
from icebreaker.training.codec_lm_batches import AnswerConfig
from icebreaker.training.loop import OptimConfig

GOLDEN_LLM = Path(__file__).parents[1] / "golden" / "freeze-omni-tiny" / "llm"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXTS = ["The sky is blue.", "Yes! It is.", "A cat has four legs.", "No."]
MODEL = CodecLMConfig(
    codes=16, llm_dim=128, split=4, hidden=16, linear_units=24, blocks=2, heads=2, prefix=False, dropout=0.1
)
OPTIM = OptimConfig(steps=4, lr=1e-3, warmup=2, log_every=1, save_every=2)
RATE = 24_000
CODEC = CodecConfig(
    resblock="2", upsample_rates=(5, 4, 5, 6), upsample_kernel_sizes=(11, 8, 11, 12), upsample_initial_channel=16,
    resblock_kernel_sizes=(3,), resblock_dilation_sizes=((1, 3),), codes=8, latent_dim=4, encoder="mel",
    encoder_channels=8, encoder_blocks=1, voice_codes=0, voice=(),
)  # fmt: skip


def write_answers(folder: Path) -> None:
    """The golden LLM with a chat template, and answers with codes, word times and conversations."""
    shutil.copytree(GOLDEN_LLM, folder / "llm")
    settings = json.loads((folder / "llm" / "tokenizer_config.json").read_text())
    (folder / "llm" / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": TEMPLATE}))
    items, codes, times = [], [], []
    rng = np.random.default_rng(0)
    for split in ("train", "valid"):
        for index, text in enumerate(TEXTS):
            name = f"{split}-{index}"
            items.append(Item(id=name, audio=folder / f"{name}.flac", seconds=1.0, text=text, split=split))
            codes.append({"id": name, "codes": rng.integers(16, size=8 * (index + 1)).tolist()})
            starts = [i for i in range(len(text)) if i == 0 or text[i - 1] == " "]
            words = [
                [s, s + len(text[s:].split()[0].strip(".!")), 0.2 * n, 0.2 * n + 0.1] for n, s in enumerate(starts)
            ]
            times.append({"id": name, "words": words})
        rows = [{"turns": [{"text": "Tell me."}, {"text": text}]} for text in [TEXTS[0], *TEXTS[:3]]]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    write_manifest(folder / "manifest.jsonl", items)
    (folder / "codes.jsonl").write_text("\n".join(map(json.dumps, codes)))
    (folder / "word_times.jsonl").write_text("\n".join(map(json.dumps, times)))


def data(folder: Path, **changes: object) -> AnswerConfig:
    paths = {name: folder / f"{name}.jsonl" for name in ("codes", "word_times")}
    return dataclasses.replace(
        AnswerConfig(answers=folder / "manifest.jsonl", **paths, rows=2, pool=2), **changes  # type: ignore[arg-type]
    )  # fmt: skip


def stage_two(folder: Path, output: Path, steps: int = 4) -> codec_lm.CodecLMTrainingConfig:
    return codec_lm.CodecLMTrainingConfig(
        output=output, llm=folder / "llm", model=MODEL, data=data(folder),
        optim=dataclasses.replace(OPTIM, steps=steps), evaluate_every=2, evaluate_answers=3, code_noise=0.3,
    )  # fmt: skip


def write_beeps(folder: Path) -> Path:
    """Three recordings of a second; returns their manifest."""
    random, items = np.random.default_rng(0), []
    folder.mkdir(exist_ok=True)
    for index, split in enumerate(["train", "train", "valid"]):
        time = np.arange(RATE) / RATE
        tone = 0.2 * np.sin(2 * np.pi * (150 + 80 * index) * time * (1 + time)) + 0.01 * random.standard_normal(RATE)
        save_wav(folder / f"{index}.wav", tone.astype(np.float32), RATE)
        items.append(Item(id=f"a{index}", audio=folder / f"{index}.wav", seconds=1.0, text="beep", split=split))
    write_manifest(folder / "manifest.jsonl", items)
    return folder / "manifest.jsonl"


def codec_stage(manifest: Path, output: Path, steps: int = 8) -> CodecTrainingConfig:
    return CodecTrainingConfig(
        optim=OptimConfig(steps=steps, lr=1e-3, warmup=2, betas=(0.8, 0.99), log_every=1, save_every=3),
        model=CODEC, data=manifest, output=output, freeze_at=5, quantise_from=2, rows=2, segment_codes=6,
        margin_codes=3, cluster_batches=2, evaluate_every=0,
        adversary=AdversaryConfig(periods=(2,), windows=(512,), channels=2, warmup=1),
    )  # fmt: skip

"""Every stage at toy size, each after those it goes on from: two steps, and an evaluation at the end."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import omni
import toy_answers
from test_encoder_ctc import TOY

from icebreaker.models.adapter import AdapterConfig
from icebreaker.models.unit_vocoder import UnitVocoderConfig
from icebreaker.training.adapter_ctc import AdapterCTCConfig
from icebreaker.training.adversary import AdversaryConfig
from icebreaker.training.alignment import AlignmentConfig
from icebreaker.training.backbone import BackboneConfig
from icebreaker.training.code_neighbours import NeighbourConfig
from icebreaker.training.codec_lm_prefix import CodecLMPrefixConfig
from icebreaker.training.conversations import MixConfig
from icebreaker.training.encoder_ctc import EncoderCTCConfig
from icebreaker.training.llm_tuning import LoraSettings, TuningConfig
from icebreaker.training.loop import OptimConfig
from icebreaker.training.scenes import CHUNK_FRAMES
from icebreaker.training.spec_augment import SpecAugmentConfig
from icebreaker.training.speech_batches import SpeechConfig
from icebreaker.training.spoken_qa import SpokenQAConfig
from icebreaker.training.stages import STAGES
from icebreaker.training.unit_ctc import HearingConfig, UnitCTCTrainingConfig
from icebreaker.training.unit_ctc_batches import TextConfig
from icebreaker.training.unit_extraction import UnitExtractionConfig, UnitFeaturesConfig
from icebreaker.training.unit_vocoder import UnitVocoderTrainingConfig

__all__ = ["configs", "losses", "runner"]

# A large eps: where a gradient is zero but for rounding, AdamW would make steps of its sign.
OPTIM = OptimConfig(steps=2, lr=1e-3, warmup=1, eps=1e-3, log_every=1, save_every=2)
HOP = 320


def configs(folder: Path) -> dict[str, Any]:
    """Writes all data under ``folder``; the configurations by a name that begins with the stage's."""
    omni.write(folder)
    toy_answers.write_answers(folder / "answers")
    beeps = toy_answers.write_beeps(folder / "beeps")
    _write_conversations(folder / "text")
    return {
        "backbone": BackboneConfig(
            optim=OPTIM, data=folder / "text", output=folder / "backbone", vocab_size=300, hidden_size=32, layers=1,
            heads=2, kv_heads=1, ffn=48, mix=MixConfig(batch_conversations=4, paced_probability=0.5, mishear=0.1),
            evaluate_conversations=2,
        ),
        **_ears(folder),
        "codec": replace(
            toy_answers.codec_stage(beeps, folder / "codec"), optim=replace(OPTIM, steps=4), freeze_at=2,
            quantise_from=1, evaluate_recordings=1,
        ),
        **_voice(folder),
        **_omni(folder, beeps),
    }  # fmt: skip


def runner(name: str) -> Callable[..., None]:
    """What runs the configuration called ``name``."""
    return STAGES[name.split("/")[0]][1]


def losses(config: Any) -> list[dict[str, float]]:
    """Losses and their parts of every step, and figures of every evaluation."""
    rows = [json.loads(line) for line in (Path(config.output) / "metrics.jsonl").read_text().splitlines()]
    timed = ("seconds", "peak_memory_mib", "batches_per_second", "audio_per_second")
    return [row.get("evaluation") or {k: v for k, v in row.items() if k not in timed} for row in rows]


def _ears(folder: Path) -> dict[str, Any]:
    questions = folder / "questions"
    data = SpeechConfig(
        questions=str(questions / "manifest.jsonl"), question_features=str(questions / "features"), frames_per_batch=600
    )
    encoder = replace(TOY, dropout=0.0)
    masks = SpecAugmentConfig(time_masks=2)
    llm, adapter = str(folder / "llm"), AdapterConfig(encoder_dim=16, llm_dim=32, vocabulary=259)
    shared = {"llm": llm, "optim": OPTIM, "evaluate_recordings": 4}
    return {
        "encoder_ctc": EncoderCTCConfig(
            output=str(folder / "spelling"), encoder=encoder, data=data, optim=OPTIM, spec_augment=masks,
            evaluate_recordings=4,
        ),
        "adapter_ctc": AdapterCTCConfig(
            output=str(folder / "adapter"), encoder=str(folder / "spelling"), adapter=adapter, data=data, recordings=6,
            rows=3, **shared,
        ),
        "alignment": AlignmentConfig(
            output=str(folder / "alignment"), encoder=str(folder / "spelling"), start_from=str(folder / "adapter"),
            adapter=adapter, data=data, spec_augment=masks, prompts=3, token_ctc_weight=0.5, max_new_tokens=3, **shared,
        ),
        "spoken_qa": SpokenQAConfig(
            output=str(folder / "spoken_qa"), alignment=str(folder / "alignment"), prompts=3, head_scenes=6,
            data=replace(data, frame_multiple=CHUNK_FRAMES, max_tail_frames=112), scenes_per_kind=2, max_new_tokens=3,
            **shared,
        ),
    }  # fmt: skip


def _voice(folder: Path) -> dict[str, Any]:
    answers = folder / "answers"
    model = replace(toy_answers.MODEL, codes=toy_answers.CODEC.codes, dropout=0.0)
    rows = [json.loads(line) for line in (answers / "codes.jsonl").read_text().splitlines()]
    fewer = [json.dumps({**row, "codes": [code % model.codes for code in row["codes"]]}) for row in rows]
    (answers / "fewer_codes.jsonl").write_text("\n".join(fewer))
    data = toy_answers.data(answers, codes=answers / "fewer_codes.jsonl")
    near = NeighbourConfig(codec=folder / "codec")
    return {
        "codec_lm": replace(
            toy_answers.stage_two(answers, folder / "codec_lm", 2), optim=OPTIM, model=model, data=data, neighbours=near
        ),
        "codec_lm_prefix": CodecLMPrefixConfig(
            output=folder / "prefix", llm=answers / "llm", codec_lm=folder / "codec_lm", conversations=answers,
            data=data, optim=OPTIM, code_noise=0.2, neighbours=near, evaluate_answers=2,
        ),
    }  # fmt: skip


def _omni(folder: Path, beeps: Path) -> dict[str, Any]:
    plain = omni.stage_one(folder, output=folder / "instruct", optim=OPTIM)
    questions = plain.questions
    instruct = replace(
        plain, adaptor=replace(plain.adaptor, stride=2, vocabulary=259), token_ctc_weight=0.5,
        questions=replace(questions, keep_frames=False),
    )  # fmt: skip
    heard = UnitCTCTrainingConfig(
        output=folder / "unit_ctc", llm=folder / "llm", units=folder / "units.jsonl", model=omni.DECODER,
        optim=OPTIM, hearing=HearingConfig(stage=folder / "instruct", questions=questions), evaluate_replies=4,
        guided_steps=1,
    )  # fmt: skip
    reading = TextConfig(answers=questions.manifest, conversations=folder / "text", rows=4)
    vocoder = UnitVocoderConfig(
        units=4, sample_rate=16_000, latent_dim=8, upsample_rates=(8, 8, 5), upsample_kernel_sizes=(16, 16, 11),
        upsample_initial_channel=16, resblock_kernel_sizes=(3,), resblock_dilation_sizes=((1,),), resblock="2",
        duration_hidden=12,
    )  # fmt: skip
    features = UnitFeaturesConfig(encoder=folder / "encoder", layer=1)
    return {
        "speech_instruct": instruct,
        "speech_instruct/full": replace(
            instruct, output=folder / "instruct_full", tuning=TuningConfig(mode="full", lr_scale=0.5)
        ),
        "speech_instruct/lora": replace(
            instruct, output=folder / "instruct_lora", tuning=TuningConfig(mode="lora", lora=LoraSettings(rank=2))
        ),
        "speech_instruct/whisper": replace(
            plain, output=folder / "instruct_whisper", encoder=None, whisper=omni.write_whisper(folder / "whisper"),
            adaptor=replace(plain.adaptor, encoder_dim=8, stride=500),
        ),
        "unit_ctc": heard,
        "unit_ctc/read": replace(heard, output=folder / "unit_ctc_read", hearing=None, reading=reading),
        "units": UnitExtractionConfig(output=folder / "units", data=beeps, features=features, units=4),
        "unit_vocoder": UnitVocoderTrainingConfig(
            output=folder / "vocoder", data=beeps, units=folder / "units" / "units.jsonl", model=vocoder, optim=OPTIM,
            adversary=AdversaryConfig(periods=(2,), windows=(64,), channels=4, warmup=0), adversary_from=1, rows=2,
            segment_frames=6, margin_frames=3, evaluate_recordings=1,
        ),
    }  # fmt: skip


def _write_conversations(folder: Path) -> None:
    folder.mkdir()
    turns = [{"role": "user", "text": "What is it?"}, {"role": "assistant", "text": "abba"}]
    rows = [{"id": str(i), "system": None, "kind": "say", "turns": turns * (1 + i % 2)} for i in range(8)]
    for split in ("train", "valid"):
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))

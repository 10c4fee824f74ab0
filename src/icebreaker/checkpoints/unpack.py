"""A bundle back into the folders of training stages, to train a part further or to replace one. Trains nothing.

    bundle  ->  runs/{backbone_daily/llm, alignment, spoken_qa, ngram, codec, codec_lm_prefix}        (Freeze-Omni)
                runs/{backbone_more/llm, encoder, speech_instruct, ngram, unit_ctc, unit_vocoder}    (LLaMA-Omni)

Each folder is what its stage would have left, less what no bundle keeps: the character head of the encoder, the
optimiser, the metrics. The bundle's model card comes along; ``assemble`` takes from it what it says of earlier stages.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from icebreaker.checkpoints.bundle import CARD, CONFIG, WEIGHTS, BundleConfig, load_weights, read_bundle_config
from icebreaker.checkpoints.modules import LANGUAGE, ModelConfig
from icebreaker.checkpoints.stage_folders import UNPACKED
from icebreaker.checkpoints.weights_file import write_weights
from icebreaker.config import to_mapping
from icebreaker.errors import CheckpointError
from icebreaker.models.llm import LLM
from icebreaker.models.whisper_encoder import WhisperConfig
from icebreaker.nn.weights import tensors_sha256, weights_sha256

__all__ = ["unpack"]

WITHOUT_LLM = ("encoder", "codec", "unit_vocoder", "ngram")  # stages that any LLM goes with


def unpack(bundle: Path, runs: Path) -> None:
    """Write the stage folders of ``bundle`` under ``runs``, weights in float32.

    Raises:
        CheckpointError: it is no bundle, does not bring its LLM or hears with Whisper's encoder, or one of the stages
            is there already.
    """
    config = read_bundle_config(bundle)
    if config.llm.path is None:
        raise CheckpointError(f"{bundle} does not bring its LLM ({config.llm.name}); only whole bundles are unpacked")
    if isinstance(config.model.encoder, WhisperConfig):
        raise CheckpointError(
            f"{bundle} hears with Whisper's encoder, which no stage of ours leaves; nothing to unpack"
        )
    llm = runs / (config.llm.name or "backbone") / "llm"
    stored = load_weights(bundle / WEIGHTS)
    weights = {name: value.float() if value.is_floating_point() else value for name, value in stored.items()}
    stages = _stages(config, llm, weights)
    if config.model.language is not None:
        stages["ngram"] = ((LANGUAGE,), {LANGUAGE: to_mapping(config.model.language)})
    if there := [folder for folder in (llm, *(runs / name for name in stages)) if folder.exists()]:
        raise CheckpointError(f"{there[0]}: is there already, and would be overwritten; unpack into another folder")
    shutil.copytree(bundle / config.llm.path, llm)
    shutil.copyfile(bundle / config.card, runs / CARD)
    fingerprint = weights_sha256(LLM.load(llm))
    for name, (parts, values) in stages.items():
        kept = {key: value for key, value in weights.items() if key.partition(".")[0] in parts}
        (runs / name).mkdir()
        write_weights(kept, runs / name / WEIGHTS)
        used = {} if name in WITHOUT_LLM else {"llm_weights_sha256": fingerprint}
        described = {UNPACKED: bundle.name, **used, **values}
        (runs / name / CONFIG).write_text(json.dumps(described, indent=2) + "\n")


def _stages(
    config: BundleConfig, llm: Path, weights: Mapping[str, Tensor]
) -> dict[str, tuple[tuple[str, ...], dict[str, Any]]]:
    """By stage: the parts it leaves, and what later stages and ``assemble`` read of its configuration."""
    model = config.model
    if isinstance(model, ModelConfig):
        prompts = to_mapping(model.prompts)
        heard = {"encoder_config": to_mapping(model.encoder), "adapter": to_mapping(model.adapter), **prompts}
        judged = {**prompts, "classes": model.prompts.turn_classes, "head_hidden": model.prompts.turn_hidden}
        return {
            "alignment": (("encoder", "adapter", "prompts"), heard),
            "spoken_qa": (("prompts", "turn_head"), judged),
            "codec": (("codec",), {"model": to_mapping(model.codec)}),
            "codec_lm_prefix": (("codec_lm",), {"model": to_mapping(model.codec_lm)}),
        }
    encoder = {name.partition(".")[2]: value for name, value in weights.items() if name.startswith("encoder.")}
    adapted = {
        "llm": str(llm), "encoder": str(llm.parents[1] / "encoder"), "encoder_sha256": tensors_sha256(encoder),
        "adaptor": to_mapping(model.adaptor), "chat": model.chat, "instruction": model.instruction,
        "system": config.settings.system,
    }  # fmt: skip
    return {
        "encoder": (("encoder",), {"encoder_config": to_mapping(model.encoder)}),
        "speech_instruct": (("adaptor",), adapted),
        "unit_ctc": (("unit_ctc",), {"model": to_mapping(model.unit_ctc)}),
        "unit_vocoder": (("vocoder",), {"model": to_mapping(model.vocoder)}),
    }

"""Our own format: one folder that builds itself.

    config.json        sizes of every part, the LLM it belongs to, settings
    model.safetensors  encoder.* adapter.* prompts.* turn_head.* codec_lm.* codec.*   (Freeze-Omni)
                       encoder.* adaptor.* unit_ctc.* vocoder.*                       (LLaMA-Omni)
                       language.*                                                     (where there is a second pass)
    MODEL_CARD.md      data, licences, stages, seeds, measured figures
    llm/               the frozen LLM as a Hugging Face folder, where it is small enough to come along

The LLM's weights are never in model.safetensors; their SHA-256 is in config.json and checked at load.
"""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from icebreaker.checkpoints.families import AnyModel, AnyParts, assembled, build, family_of
from icebreaker.checkpoints.modules import check_width, fill_modules
from icebreaker.checkpoints.pt_file import check_fit
from icebreaker.checkpoints.weights_file import write_weights
from icebreaker.config import from_mapping, to_mapping
from icebreaker.dialogue.parts import DialogueSettings
from icebreaker.errors import CheckpointError, ConfigError
from icebreaker.models.llm import LLM
from icebreaker.models.llm_folder import folder_sha256

__all__ = [
    "CARD",
    "CONFIG",
    "WEIGHTS",
    "BundleConfig",
    "LLMReference",
    "Storage",
    "check_llm",
    "is_bundle",
    "load_bundle",
    "load_weights",
    "read_bundle_config",
    "write_bundle",
]

logger = logging.getLogger(__name__)
FORMAT = 1
CONFIG, WEIGHTS, CARD, EMBEDDED_LLM = "config.json", "model.safetensors", "MODEL_CARD.md", "llm"
KEEP_FLOAT32 = ("encoder.mean", "encoder.istd")  # statistics: 160 numbers that everything else depends on
Storage = Literal["float32", "float16", "bfloat16"]
STORAGE = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class LLMReference:
    """The LLM a bundle was aligned with.

    Attributes:
        sha256: over its stored tensors (``models.llm_folder.folder_sha256``).
        width: of its hidden states.
        name: for people.
        path: relative to the bundle, where the LLM comes along; else ``None``.
    """

    sha256: str
    width: int
    name: str = ""
    path: str | None = None


@dataclass(frozen=True, kw_only=True)
class BundleConfig:
    """The content of ``config.json``."""

    model: AnyModel
    llm: LLMReference
    settings: DialogueSettings = field(default_factory=DialogueSettings)
    family: Literal["freeze-omni", "llama-omni"] = "freeze-omni"
    format: Literal[1] = 1
    card: str = CARD

    def __post_init__(self) -> None:
        if self.family != family_of(self.model):
            raise ValueError(f"the family is {self.family!r}, but the parts are those of {family_of(self.model)!r}")
        if self.llm.width != self.model.llm_dim:
            raise ValueError(f"llm width {self.llm.width} is not the adapter's llm_dim {self.model.llm_dim}")


def is_bundle(folder: Path) -> bool:
    """Whether ``folder`` looks like one of ours."""
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def read_bundle_config(folder: Path) -> BundleConfig:
    """The configuration of the bundle in ``folder``.

    Raises:
        CheckpointError: it is missing, damaged, of another family or a newer format.
    """
    path = folder / CONFIG
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{folder}: no {CONFIG}, so no bundle; make one with icebreaker convert") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(values, Mapping) or "family" not in values:
        raise CheckpointError(f"{path}: not the configuration of a bundle: it names no family")
    if isinstance(values.get("format"), int) and values["format"] > FORMAT:
        raise CheckpointError(f"{path}: written by a newer version (format {values['format']}); update icebreaker")
    try:
        return from_mapping(BundleConfig, values, str(path))
    except ConfigError as error:
        raise CheckpointError(str(error)) from error


def load_bundle(
    folder: Path,
    llm_path: Path | None = None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> AnyParts:
    """Build everything in the bundle ``folder`` around its LLM.

    Args:
        folder: of the bundle.
        llm_path: Hugging Face folder of the LLM; may be left out where the bundle brings its own.
        device: for all parts.
        dtype: of the LLM and the modules around it.

    Raises:
        CheckpointError: something is missing, damaged, or does not belong together.
    """
    config = read_bundle_config(folder)
    llm_folder = _llm_folder(folder, config.llm, llm_path)
    check_llm(config.llm, llm_folder, str(folder))
    llm = LLM.load(llm_folder, device, dtype)
    check_width(config.model.llm_dim, llm, str(folder))
    modules = build(config.model)
    fill_modules(modules, load_weights(folder / WEIGHTS), str(folder / WEIGHTS))
    return assembled(config.model, modules, llm, config.settings, device=device, dtype=dtype)


def load_weights(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    try:
        return dict(load_file(path))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; expected the weights there") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error}); copy or download it again") from error


def check_llm(expected: LLMReference, llm_folder: Path, where: str) -> None:
    """Refuse an LLM other than the one these parts were aligned with.

    Raises:
        CheckpointError: the hashes differ.
    """
    if (found := folder_sha256(llm_folder)) != expected.sha256:
        raise CheckpointError(
            f"{where} was aligned with the LLM {expected.name or 'of'} sha256 {expected.sha256}, "
            f"but {llm_folder} has sha256 {found}; give the right folder with --llm, or align the parts with this LLM: "
            "icebreaker train the stages alignment, spoken_qa, codec_lm and codec_lm_prefix (encoder_ctc and codec do "
            "not depend on the LLM)"
        )


def write_bundle(
    folder: Path,
    config: BundleConfig,
    weights: Mapping[str, Tensor],
    card: str,
    *,
    storage: Storage = "float32",
    llm_folder: Path | None = None,
) -> None:
    """Write a bundle; readers see the old one or the whole new one, never half.

    Args:
        folder: where to; an existing bundle there is replaced, anything else is left alone.
        config: must describe ``weights``.
        weights: by our names, all parts together.
        card: text of the model card.
        storage: floating-point type in the file; what does not fit float16 stays float32.
        llm_folder: copied to ``llm/`` where ``config.llm.path`` says so.

    Raises:
        CheckpointError: ``folder`` is something else, ``weights`` do not fit ``config``, or the disk is full; what was
            there before is whole.
    """
    if folder.exists() and not (is_bundle(folder) or not any(folder.iterdir())):
        raise CheckpointError(f"{folder}: exists and is no bundle; choose another folder or move it away")
    check_fit(build(config.model), weights, "the weights to be written")
    aside = folder.with_name(folder.name + ".partial")
    old = folder.with_name(folder.name + ".old")
    for leftover in (aside, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        stored = {name: _stored(name, value, STORAGE[storage]) for name, value in weights.items()}
        write_weights(stored, aside / WEIGHTS)
        (aside / CONFIG).write_text(json.dumps(to_mapping(config), indent=1, ensure_ascii=False) + "\n")
        (aside / config.card).write_text(card)
        if config.llm.path is not None:
            assert llm_folder is not None, "a bundle that brings its LLM needs the folder to copy"
            # Content alone: what may be read of a bundle is not up to where its LLM lay.
            shutil.copytree(llm_folder, aside / config.llm.path, copy_function=shutil.copyfile)
            shutil.copymode(aside, aside / config.llm.path)
        if folder.exists():
            folder.rename(old)
        aside.rename(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise CheckpointError(
            f"{folder}: could not write the bundle: {error}; give a writable folder with enough free space"
        ) from error
    shutil.rmtree(old, ignore_errors=True)
    logger.info("wrote %s: %d tensors in %s", folder, len(weights), storage)


def _stored(name: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    if not value.is_floating_point() or name in KEEP_FLOAT32:
        return value.clone(memory_format=torch.contiguous_format)
    stored = value.to(dtype)
    if stored.isinf().any() and not value.isinf().any():
        stored = value.float()
    return stored.clone(memory_format=torch.contiguous_format)


def _llm_folder(folder: Path, reference: LLMReference, llm_path: Path | None) -> Path:
    if llm_path is not None:
        return llm_path
    if reference.path is not None:
        return folder / reference.path
    raise CheckpointError(
        f"{folder} does not bring its LLM: give the Hugging Face folder of {reference.name or 'it'} "
        f"(sha256 {reference.sha256}) with --llm"
    )

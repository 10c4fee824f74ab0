"""Where the families part ways: which parts a model has, how they are built and put together. Opens no file."""

import torch
from torch import nn

from icebreaker.checkpoints.modules import LANGUAGE, PARTS, ModelConfig, build_modules, parts_of
from icebreaker.checkpoints.omni_modules import OMNI_PARTS, OmniModelConfig, build_omni_modules, omni_parts_of
from icebreaker.dialogue.parts import DialogueSettings, OmniParts, Parts
from icebreaker.models.llm import LLM

__all__ = ["AnyModel", "AnyParts", "assembled", "build", "family_of", "part_names"]

AnyModel = ModelConfig | OmniModelConfig
AnyParts = Parts | OmniParts


def family_of(model: AnyModel) -> str:
    """The name of a model's family."""
    return "freeze-omni" if isinstance(model, ModelConfig) else "llama-omni"


def part_names(model: AnyModel) -> tuple[str, ...]:
    """Names of a model's parts, the first word of each of its weights."""
    parts = PARTS if isinstance(model, ModelConfig) else OMNI_PARTS
    return parts if model.language is None else (*parts, LANGUAGE)


def build(model: AnyModel) -> nn.ModuleDict:
    """Modules by part, most of them without values."""
    return build_modules(model) if isinstance(model, ModelConfig) else build_omni_modules(model)


def assembled(
    model: AnyModel,
    modules: nn.ModuleDict,
    llm: LLM,
    settings: DialogueSettings,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> AnyParts:
    """Everything a dialogue needs, on ``device``."""
    if isinstance(model, ModelConfig):
        return parts_of(model, modules, llm, settings, device=device, dtype=dtype)
    return omni_parts_of(model, modules, llm, settings, device=device, dtype=dtype)

"""How much of the LLM learns: all of it, low-rank additions to it (LoRA, arXiv:2106.09685), or nothing."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from icebreaker.checkpoints.weights_file import share_weights
from icebreaker.errors import CheckpointError
from icebreaker.extras import load_extra
from icebreaker.models.llm import LLM
from icebreaker.training.processes import is_main
from icebreaker.training.sharding import whole_state

__all__ = ["LoraSettings", "TunedLLM", "TuningConfig"]

ADAPTER = "default"


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """Defaults of the released code; its dropout is left out, as everywhere in this model."""

    rank: int = 64
    alpha: float = 16.0
    targets: tuple[str, ...] = ()  # names of linear layers; none: all but the head


@dataclass(frozen=True, kw_only=True)
class TuningConfig:
    """``full``: every parameter (the paper's); ``lora``: additions of low rank; ``frozen``: ours, for small LLMs."""

    mode: Literal["full", "lora", "frozen"] = "full"
    lora: LoraSettings = field(default_factory=LoraSettings)
    lr_scale: float = 1.0  # of the LLM against the adaptor


class TunedLLM:
    """An LLM of which ``config`` says what learns; ``save`` leaves a plain Hugging Face folder in every mode."""

    def __init__(self, llm: LLM, config: TuningConfig) -> None:
        self.llm, self.config = llm, config
        self._tuner: Any = None
        if config.mode == "full":
            llm.model.requires_grad_(True)
        elif config.mode == "lora":
            peft = load_extra("peft", "train")
            settings = config.lora
            lora = peft.LoraConfig(
                r=settings.rank, lora_alpha=settings.alpha, lora_dropout=0.0,
                target_modules=list(settings.targets) or "all-linear",
            )  # fmt: skip
            try:
                self._tuner = peft.LoraModel(llm.model, lora, ADAPTER)  # replaces the layers in place
            except ValueError as error:
                raise CheckpointError(f"LoRA does not fit {type(llm.model).__name__}: {error}") from error

    @property
    def learns(self) -> bool:
        """Whether anything of the LLM is trained."""
        return self.config.mode != "frozen"

    def save(self, folder: Path) -> None:
        """Write the LLM as it stands, additions merged in; ends training. All processes call it, one writes."""
        if self._tuner is not None:
            self._tuner.merge_and_unload()
            self._tuner = None
        self.llm.model.requires_grad_(False)
        weights = whole_state(self.llm.model)
        if is_main():
            self.llm.model.save_pretrained(folder, state_dict=weights)
            share_weights(folder)
            self.llm.tokenizer.save_pretrained(folder)

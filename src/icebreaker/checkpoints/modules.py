"""The trained modules of a dialogue, from a configuration and named weights. Opens no file, knows no format."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from icebreaker.audio.fbank import Fbank
from icebreaker.checkpoints.pt_file import load_exactly
from icebreaker.dialogue.parts import DialogueSettings, Parts
from icebreaker.errors import CheckpointError
from icebreaker.models.adapter import Adapter, AdapterConfig
from icebreaker.models.chat import DEFAULT_SYSTEM, ChatPrompt
from icebreaker.models.codec import Codec, CodecConfig
from icebreaker.models.codec_lm import CodecLM, CodecLMConfig
from icebreaker.models.encoder import Encoder, EncoderConfig
from icebreaker.models.llm import LLM
from icebreaker.models.ngram import NGram, NGramConfig
from icebreaker.models.prompts import Prompts
from icebreaker.models.turn_head import TurnHead

__all__ = [
    "LANGUAGE",
    "PARTS",
    "ModelConfig",
    "PromptsConfig",
    "build_modules",
    "check_width",
    "fill_modules",
    "parts_of",
]

PARTS = ("encoder", "adapter", "prompts", "turn_head", "codec_lm", "codec")
LANGUAGE = "language"  # a part of either family that a model may lack


@dataclass(frozen=True, kw_only=True)
class PromptsConfig:
    """How many prompt and task embeddings there are, and the sizes of the turn head."""

    prompts: int = 25
    tasks: int = 20
    turn_classes: int = 4
    turn_hidden: int = 0  # ours; 0: the head is linear, as published


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes of everything that is trained, and how the LLM is talked to.

    Attributes:
        chat: ``tokenizer``: by the chat template of the LLM's tokenizer; ``official``: ChatML, cut as the official
            code cuts it.
        language: what users say, for the second pass; None: there is none.
    """

    encoder: EncoderConfig
    adapter: AdapterConfig
    codec_lm: CodecLMConfig
    codec: CodecConfig
    prompts: PromptsConfig = field(default_factory=PromptsConfig)
    chat: Literal["tokenizer", "official"] = "tokenizer"
    language: NGramConfig | None = None

    def __post_init__(self) -> None:
        if self.adapter.encoder_dim != self.encoder.width:
            raise ValueError(
                f"the adapter takes width {self.adapter.encoder_dim}, the encoder gives {self.encoder.width}"
            )
        if self.adapter.llm_dim != self.codec_lm.llm_dim:
            raise ValueError(
                f"adapter and codec_lm disagree on the LLM's width: {self.adapter.llm_dim}, {self.codec_lm.llm_dim}"
            )
        if self.codec_lm.codes != self.codec.codes:
            raise ValueError(f"codec_lm has {self.codec_lm.codes} codes, the codec {self.codec.codes}")

    @property
    def llm_dim(self) -> int:
        """Width of the LLM."""
        return self.adapter.llm_dim


def build_modules(config: ModelConfig) -> nn.ModuleDict:
    """Modules by the names in ``PARTS``, most of them without values; ``fill_modules`` gives them some."""
    width, sizes = config.adapter.llm_dim, config.prompts
    with torch.device("meta"):
        modules: dict[str, nn.Module] = {
            "encoder": Encoder(config.encoder),
            "adapter": Adapter(config.adapter),
            "prompts": Prompts(width, sizes.prompts, sizes.tasks),
            "turn_head": TurnHead(width, sizes.turn_classes, sizes.turn_hidden),
            "codec_lm": CodecLM(config.codec_lm),
        }
        if config.language is not None:
            modules[LANGUAGE] = NGram(config.language)
    # The codec computes filter banks that are in no state dict.
    return nn.ModuleDict({**modules, "codec": Codec(config.codec)})


def fill_modules(
    modules: nn.Module, weights: Mapping[str, Tensor], where: str, names: Mapping[str, str] | None = None
) -> None:
    """Give ``modules`` their values, and nothing but them; leaves it in eval mode, without gradients.

    ``names`` says what the file calls a weight, where it is not our name.

    Raises:
        CheckpointError: names the first weight that does not fit.
    """
    load_exactly(modules, weights, where, names)
    left = [name for name, value in [*modules.named_parameters(), *modules.named_buffers()] if value.is_meta]
    assert not left, f"no value for {left[0]}: it is not in the state dict, so it must not be built on meta"
    modules.eval().requires_grad_(False)


def check_width(expected: int, llm: LLM, where: str) -> None:
    """Refuse an LLM of another width before anything large is built.

    Raises:
        CheckpointError: the widths differ.
    """
    if llm.width != expected:
        raise CheckpointError(
            f"{where} was trained with an LLM of width {expected}, {llm.folder} has {llm.width}; "
            "give the LLM it was aligned with, or align it anew (encoder_ctc and codec can be kept)"
        )


def parts_of(
    config: ModelConfig,
    modules: nn.ModuleDict,
    llm: LLM,
    settings: DialogueSettings,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Parts:
    """Everything a dialogue needs, on ``device``.

    Features and codec stay in float32; the modules between them, which surround the LLM, are cast to ``dtype``.
    """
    if config.chat == "official":
        chat = ChatPrompt.official(llm.tokenizer, DEFAULT_SYSTEM if settings.system is None else settings.system)
    else:
        chat = ChatPrompt.from_tokenizer(llm.tokenizer, settings.system)
    for name in PARTS:
        modules[name].to(device=device, dtype=torch.float32 if name == "codec" else dtype)
    voice = torch.tensor([config.codec.voice], device=device) if config.codec.voice_codes else None
    return Parts(
        fbank=Fbank().to(device),
        llm=llm,
        chat=chat,
        voice=voice,
        settings=settings,
        language=None if config.language is None else modules[LANGUAGE],  # type: ignore[arg-type]
        **{name: modules[name] for name in PARTS},  # type: ignore[arg-type]
    )

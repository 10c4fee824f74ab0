"""LLaMA-Omni's trained modules, from a configuration and named weights. Opens no file, knows no format."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from icebreaker.audio.fbank import Fbank
from icebreaker.audio.whisper_mel import WhisperMel
from icebreaker.checkpoints.modules import LANGUAGE
from icebreaker.dialogue.ears import CHUNK_OUTPUT
from icebreaker.dialogue.parts import DialogueSettings, OmniParts
from icebreaker.models.chat import ChatPrompt
from icebreaker.models.encoder import Encoder, EncoderConfig
from icebreaker.models.llm import LLM
from icebreaker.models.ngram import NGram, NGramConfig
from icebreaker.models.speech_adaptor import SpeechAdaptor, SpeechAdaptorConfig
from icebreaker.models.unit_ctc import UnitCTC, UnitCTCConfig
from icebreaker.models.unit_vocoder import UnitVocoder, UnitVocoderConfig
from icebreaker.models.whisper_encoder import WhisperConfig, WhisperEncoder

__all__ = ["OMNI_PARTS", "OmniModelConfig", "build_omni_modules", "omni_parts_of"]

OMNI_PARTS = ("encoder", "adaptor", "unit_ctc", "vocoder")


@dataclass(frozen=True, kw_only=True)
class OmniModelConfig:
    """Sizes of everything that is trained, and how the LLM is talked to.

    Attributes:
        encoder: Whisper's, or one of our own.
        adaptor: between encoder and LLM.
        unit_ctc: LLM states to units.
        vocoder: units to sound.
        chat: ``tokenizer``: by the chat template of the LLM's tokenizer; ``llama-omni``: as the official code does it.
        instruction: text after the speech of every turn, part of the user's; the official chat has its own.
        language: what users say, for the second pass; None: there is none.
    """

    encoder: WhisperConfig | EncoderConfig
    adaptor: SpeechAdaptorConfig
    unit_ctc: UnitCTCConfig
    vocoder: UnitVocoderConfig
    chat: Literal["tokenizer", "llama-omni"] = "tokenizer"
    instruction: str = ""
    language: NGramConfig | None = None

    def __post_init__(self) -> None:
        if self.adaptor.encoder_dim != self.encoder.width:
            raise ValueError(
                f"the adaptor takes width {self.adaptor.encoder_dim}, the encoder gives {self.encoder.width}"
            )
        if self.adaptor.llm_dim != self.unit_ctc.llm_dim:
            raise ValueError(
                f"adaptor and unit_ctc disagree on the LLM's width: {self.adaptor.llm_dim}, {self.unit_ctc.llm_dim}"
            )
        if self.unit_ctc.units != self.vocoder.units:
            raise ValueError(
                f"the speech decoder speaks {self.unit_ctc.units} units, the vocoder knows {self.vocoder.units}; "
                "give the vocoder that was trained on the units of the same k-means"
            )
        if isinstance(self.encoder, EncoderConfig) and CHUNK_OUTPUT % self.adaptor.stride:
            raise ValueError(
                f"an encoder that streams gives {CHUNK_OUTPUT} frames at a time, the adaptor's stride "
                f"{self.adaptor.stride} must divide them"
            )

    @property
    def llm_dim(self) -> int:
        """Width of the LLM."""
        return self.adaptor.llm_dim


def build_omni_modules(config: OmniModelConfig) -> nn.ModuleDict:
    """Modules by the names in ``OMNI_PARTS``, without values; ``fill_modules`` gives them some."""
    whisper = isinstance(config.encoder, WhisperConfig)
    with torch.device("meta"):
        modules: dict[str, nn.Module] = {
            "encoder": WhisperEncoder(config.encoder) if whisper else Encoder(config.encoder),  # type: ignore[arg-type]
            "adaptor": SpeechAdaptor(config.adaptor),
            "unit_ctc": UnitCTC(config.unit_ctc),
            "vocoder": UnitVocoder(config.vocoder),
        }
        if config.language is not None:
            modules[LANGUAGE] = NGram(config.language)
        return nn.ModuleDict(modules)


def omni_parts_of(
    config: OmniModelConfig,
    modules: nn.ModuleDict,
    llm: LLM,
    settings: DialogueSettings,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> OmniParts:
    """Everything a dialogue needs, on ``device``; features and vocoder stay in float32."""
    make = ChatPrompt.llama_omni if config.chat == "llama-omni" else ChatPrompt.from_tokenizer
    chat = make(llm.tokenizer, settings.system).with_instruction(llm.tokenizer, config.instruction)
    for name in OMNI_PARTS:
        modules[name].to(device=device, dtype=torch.float32 if name == "vocoder" else dtype)
    features = WhisperMel(config.encoder.mels) if isinstance(config.encoder, WhisperConfig) else Fbank()
    return OmniParts(
        features=features.to(device),
        llm=llm,
        chat=chat,
        settings=settings,
        language=None if config.language is None else modules[LANGUAGE],  # type: ignore[arg-type]
        **{name: modules[name] for name in OMNI_PARTS},  # type: ignore[arg-type]
    )

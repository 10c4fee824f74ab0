"""What a dialogue is made of: trained parts and settings. Loads nothing.

The families differ in four modules each: encoder, adapter, codec_lm and codec of Freeze-Omni are encoder, adaptor,
unit_ctc and vocoder of LLaMA-Omni. The LLM, the chat around it and the settings are the same.
"""

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from icebreaker.audio.fbank import Fbank
from icebreaker.audio.whisper_mel import WhisperMel
from icebreaker.duplex import DuplexConfig
from icebreaker.models.adapter import Adapter
from icebreaker.models.chat import ChatPrompt
from icebreaker.models.codec import Codec
from icebreaker.models.codec_lm import CodecLM
from icebreaker.models.ctc_search import CTCSearchConfig
from icebreaker.models.encoder import Encoder
from icebreaker.models.llm import LLM
from icebreaker.models.ngram import NGram
from icebreaker.models.prompts import Prompts
from icebreaker.models.sampling import SamplingConfig
from icebreaker.models.speech_adaptor import SpeechAdaptor
from icebreaker.models.turn_head import TurnHead
from icebreaker.models.unit_ctc import UnitCTC
from icebreaker.models.unit_vocoder import UnitVocoder
from icebreaker.models.unit_wave import WaveRule
from icebreaker.models.whisper_encoder import WhisperEncoder
from icebreaker.text.segment import SegmenterConfig

__all__ = ["DialogueSettings", "OmniParts", "Parts", "UnitOutConfig", "WaveOutConfig"]


@dataclass(frozen=True, kw_only=True)
class WaveOutConfig:
    """How codes become packets of sound.

    Attributes:
        rule: ``exact`` is ours: what streams equals the offline decode of the segment to the sample, and every code
            adds its 25 ms as soon as the codec's receptive field allows. ``official`` decodes overlapping chunks and
            cuts at low energy (official implementation; released server.json).
        first_chunk: codes in the first chunk of a reply (official).
        chunk: codes in later chunks (official).
        overlap: codes decoded twice at each border (official).
        window: samples of the low-energy search window N (official).
        first_threshold: mean magnitude below which the first chunk may be cut (official).
        threshold: the same for later chunks (official).
        trim_start: drop what is under 0.03 before the first sound of a reply (official server).
    """

    rule: Literal["exact", "official"] = "exact"
    first_chunk: int = 20
    chunk: int = 40
    overlap: int = 10
    window: int = 2401
    first_threshold: float = 0.1
    threshold: float = 0.015
    trim_start: bool = False


@dataclass(frozen=True, kw_only=True)
class UnitOutConfig:
    """How units become chunks of sound (LLaMA-Omni).

    Attributes:
        omega: units that wait at least before a chunk is spoken (arXiv:2409.06666v2, algorithm 1); chunks end between
            text tokens, so most are longer. 0: the whole reply at once, the paper's infinity.
        rule: how chunks meet, see ``models.unit_wave``; ``independent`` is official.
    """

    omega: int = 40
    rule: WaveRule = "crossfade"

    def __post_init__(self) -> None:
        if self.omega < 0:
            raise ValueError(f"omega must be 0 (the whole reply at once) or more, got {self.omega}")


@dataclass(frozen=True, kw_only=True)
class DialogueSettings:
    """What can be changed without training anything.

    Attributes:
        system: the system prompt of a new conversation; empty: what the chat template does without one.
        text: how text tokens are drawn.
        speech: how codes are drawn.
        segmenter: when a stretch of text goes to the speech decoder.
        spoken: clean-up of that text; ``official`` ends every segment in a full-width full stop.
        wave_out: how codes become packets.
        unit_out: how units become chunks of sound (LLaMA-Omni).
        long_speech: what ears that hear whole turns of at most 30 s (Whisper's) do with longer ones: ``windows``, ours,
            hears every 30 s by itself, one after the other; ``cut`` is official and forgets what comes later.
        duplex: how willing the assistant is to speak.
        preroll_chunks: 160 ms chunks before the start of speech that are heard too (official server: 6).
        context_positions: LLM positions of a conversation that it reads well: of longer ones the engine has it forget
            the oldest turns, never the instructions or the newest turn. 0: as many as there is room for.
        max_text_tokens: longest reply (official server: 500).
        max_codes: longest segment, 25 ms each (official: 1000).
        certainty: of an adapter that looks tokens up: how many times as sure its mixtures are as they were in training.
        second_pass: of a model that brings a language model: how it and the ears weigh, see ``dialogue.second_pass``.
        completeness: likewise: how much it tells the state head of whether a sentence is over. 0: nothing.
        completeness_even: log-probability of an end at which it leaves the head's verdict as it is.
        least_sense: likewise: log-probability a vector of what was heard (bonuses included), below which speech over
            the assistant's own is taken for noise or for talk between others. None: nothing is.
        alignment_layers: of the speech decoder, trained to look at the word they speak (``alignment_layers`` of stage
            codec_lm): they tell which words were heard of a reply that is cut. None: its letters are spread evenly.
        silent_codes: codes at the beginning of a reply whose sound is left out (ours; not with the official wave-out):
            a voice taught on recordings that begin in silence begins so, and its listener waits for nothing.
        codes_per_step: codes drawn per step and speaking row; more is faster, fewer is fairer to others.
        transcribe: whether the task embeddings understand our layout of stage 2; the official layout is not known.
        mask_special_codes: never draw bos, sos or pad (the official code may, and then fails).
    """

    system: str = "You are a helpful assistant."
    text: SamplingConfig = field(default_factory=lambda: SamplingConfig(top_k=1))
    speech: SamplingConfig = field(default_factory=lambda: SamplingConfig(top_k=2))
    segmenter: SegmenterConfig = field(default_factory=SegmenterConfig)
    spoken: Literal["plain", "official"] = "plain"
    wave_out: WaveOutConfig = field(default_factory=WaveOutConfig)
    unit_out: UnitOutConfig = field(default_factory=UnitOutConfig)
    long_speech: Literal["windows", "cut"] = "windows"
    duplex: DuplexConfig = field(default_factory=DuplexConfig)
    preroll_chunks: int = 3
    context_positions: int = 0
    max_text_tokens: int = 500
    max_codes: int = 1000
    certainty: float = 1.0
    second_pass: CTCSearchConfig = field(default_factory=CTCSearchConfig)
    completeness: float = 0.0
    completeness_even: float = -1.5
    least_sense: float | None = None
    alignment_layers: tuple[int, ...] = ()
    silent_codes: int = 0
    codes_per_step: int = 8
    transcribe: bool = True
    mask_special_codes: bool = True

    def __post_init__(self) -> None:
        if min(self.max_text_tokens, self.max_codes, self.codes_per_step) < 1 or self.preroll_chunks < 0:
            raise ValueError("max_text_tokens, max_codes and codes_per_step must be at least 1, preroll_chunks 0")
        for name in ("context_positions", "silent_codes"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected 0 or more, got {getattr(self, name)}")
        if not self.certainty > 0:
            raise ValueError(f"certainty: expected a positive number, got {self.certainty}")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Freeze-Omni: trained modules on one device, in eval mode, and how they are to be used."""

    fbank: Fbank
    encoder: Encoder
    adapter: Adapter
    prompts: Prompts
    turn_head: TurnHead
    llm: LLM
    codec_lm: CodecLM
    codec: Codec
    chat: ChatPrompt
    voice: Tensor | None  # [1, global codes] of the assistant's voice
    language: NGram | None = None  # of what users say
    settings: DialogueSettings = field(default_factory=DialogueSettings)


@dataclass(frozen=True, kw_only=True)
class OmniParts:
    """LLaMA-Omni: trained modules on one device, in eval mode, and how they are to be used.

    Whisper's encoder hears a turn when it is over; one of our own, with features to match, hears it as it comes.
    """

    features: WhisperMel | Fbank
    encoder: WhisperEncoder | Encoder
    adaptor: SpeechAdaptor
    llm: LLM
    unit_ctc: UnitCTC
    vocoder: UnitVocoder
    chat: ChatPrompt
    language: NGram | None = None  # of what users say
    settings: DialogueSettings = field(default_factory=DialogueSettings)

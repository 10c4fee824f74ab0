"""Models of published sizes with random weights, made where they will run. Reads no file.

Speed does not depend on the weights, so nothing has to be downloaded: whoever has the device has the benchmark.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from icebreaker.audio.fbank import Fbank
from icebreaker.checkpoints.find import load_parts
from icebreaker.dialogue.parts import DialogueSettings, Parts
from icebreaker.models.adapter import Adapter, AdapterConfig
from icebreaker.models.chat import ChatPrompt
from icebreaker.models.codec import Codec, CodecConfig
from icebreaker.models.codec_lm import CodecLM, CodecLMConfig
from icebreaker.models.encoder import Encoder, EncoderConfig
from icebreaker.models.llm import LLM
from icebreaker.models.prompts import Prompts
from icebreaker.models.sampling import SamplingConfig
from icebreaker.models.speech_adaptor import SpeechAdaptor, SpeechAdaptorConfig
from icebreaker.models.turn_head import TurnHead
from icebreaker.models.unit_ctc import UnitCTC, UnitCTCConfig
from icebreaker.models.unit_vocoder import UnitVocoder, UnitVocoderConfig
from icebreaker.models.whisper_encoder import WhisperConfig, WhisperEncoder
from icebreaker.text.segment import SegmenterConfig

__all__ = ["REPLIES", "SHAPES", "Omni", "Shape", "omni", "parts"]

Built = TypeVar("Built", bound=nn.Module)
NOISE = (1 << 20) - 3  # odd, so that rows of a matrix differ
QWEN2 = {"rope_theta": 1e6, "max_position_embeddings": 32768, "bos_token_id": None, "eos_token_id": None}
REPLIES = (  # what a chat model says first; the first pause comes after 2 to 14 words
    "Sure, I can help you with that. What would you like to cook tonight?",
    "The capital of France is Paris, which lies on the river Seine in the north of the country.",
    "That sounds like a lovely plan! Bring a jacket, because the evenings by the sea can be cold.",
    "A good way to fall asleep sooner is to keep the same hours every day, even at weekends.",
    "Water boils at one hundred degrees at sea level, and at about seventy on top of Mount Everest.",
    "I would start with the second chapter since it explains all the words that the first one uses.",
    "There are several reasons for that. The most important one is that warm air rises.",
    "To change the tyre you first loosen the nuts a little while the wheel is still on the ground.",
)
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Shape:
    """One size of everything.

    Attributes:
        name: as it is printed.
        llm: what the transformers configuration is given.
        family: ``qwen2`` or ``llama``.
        small: tiny encoder and decoders too, for trying the script out.
        bundle: the trained model that is meant, instead of random weights.
    """

    name: str
    llm: dict[str, object]
    family: str = "qwen2"
    small: bool = False
    bundle: str | None = None

    @property
    def llm_dim(self) -> int:
        """Width of the LLM."""
        return int(str(self.llm["hidden_size"]))

    def cut(self, layers: int | None) -> "Shape":
        """The same with fewer LLM layers, and a name that says so."""
        if layers is None or layers == self.llm["num_hidden_layers"]:
            return self
        name = f"{self.name}, cut to {layers} of {self.llm['num_hidden_layers']} LLM layers"
        return replace(self, name=name, llm=self.llm | {"num_hidden_layers": layers})


def _sizes(width: int, layers: int, heads: int, kv: int, ffn: int, vocab: int, **more: object) -> dict[str, object]:
    return {
        "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv,
        "intermediate_size": ffn, "vocab_size": vocab, **more,
    }  # fmt: skip


SHAPES = {
    "7b": Shape("Qwen2-7B, official Freeze-Omni parts", _sizes(3584, 28, 28, 4, 18944, 152064, **QWEN2)),
    "0.5b": Shape(
        "Qwen2-0.5B, official Freeze-Omni parts but for the width at the LLM",
        _sizes(896, 24, 14, 2, 4864, 151936, tie_word_embeddings=True, **QWEN2),
    ),
    "8b": Shape(
        "Llama-3.1-8B, official LLaMA-Omni parts",
        _sizes(4096, 32, 32, 8, 14336, 128256, rope_theta=5e5, max_position_embeddings=131072),
        family="llama",
    ),
    "mini": Shape("mini, the bundled model", _sizes(256, 4, 4, 2, 768, 2048), bundle="mini"),
    "tiny": Shape(
        "tiny, to try the script out", _sizes(64, 2, 4, 2, 96, 512, tie_word_embeddings=True, **QWEN2), small=True
    ),
}


def made(build: Callable[[], Built], device: torch.device, dtype: torch.dtype, *, halved: bool = False) -> Built:
    """A module on ``device`` whose weights are a million random numbers, repeated: quicker than drawing billions.

    ``halved``: numbers that bfloat16 holds, as published LLMs have them, whatever ``dtype`` they are computed in.
    """
    with torch.device("meta"):
        module = build()
    module = module.to(dtype).to_empty(device=device).eval().requires_grad_(False)
    noise = torch.randn(NOISE, generator=torch.Generator().manual_seed(0)) * 0.02
    noise = (noise.bfloat16() if halved else noise).to(device, dtype)
    for name, weight in module.named_parameters():
        if name.endswith("norm.weight"):
            weight.fill_(1.0)
        else:
            weight.copy_(noise.repeat(-(-weight.numel() // NOISE))[: weight.numel()].view(weight.shape))
    for buffer in module.buffers():
        buffer.zero_()
    return module


def llm(shape: Shape, device: torch.device, dtype: torch.dtype) -> LLM:
    """The LLM, and a tokenizer whose tokens are the words of ``REPLIES``."""
    if shape.family == "llama":
        config, kind = LlamaConfig(**shape.llm), LlamaForCausalLM
    else:
        config, kind = Qwen2Config(**shape.llm), Qwen2ForCausalLM
    model = made(lambda: kind(config), device, dtype, halved=True)
    model.tie_weights()
    model.model.rotary_emb = type(model.model.rotary_emb)(config).to(device)  # its table is not a weight
    model.generation_config.eos_token_id = None
    return LLM(model, tokenizer())


def tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, merged to the words of ``REPLIES``: about as many tokens a word as a large vocabulary has."""
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    words.train_from_iterator([*REPLIES, "system user assistant You are a helpful assistant."], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = CHATML
    return fast


def parts(shape: Shape, device: torch.device, dtype: torch.dtype) -> Parts:
    """Everything that a Freeze-Omni dialogue needs; the codec stays in float32, as in the official implementation."""
    if shape.bundle:
        return load_parts(shape.bundle, None, device=device, dtype=dtype)
    language = llm(shape, device, dtype)
    width = shape.llm_dim
    if shape.small:
        encoder = EncoderConfig(subsampling_dim=16, width=32, heads=4, feed_forward_dim=48, layers=2)
        speech = CodecLMConfig(llm_dim=width, hidden=16, linear_units=32, blocks=2, heads=2)
        codec = CodecConfig(upsample_initial_channel=64, latent_dim=16, voice_dim=16)
    else:
        encoder, speech, codec = EncoderConfig(), CodecLMConfig(llm_dim=width), CodecConfig()
    built = Parts(
        fbank=Fbank().to(device),
        encoder=made(lambda: Encoder(encoder), device, dtype),
        adapter=made(lambda: Adapter(AdapterConfig(encoder_dim=encoder.width, llm_dim=width)), device, dtype),
        prompts=made(lambda: Prompts(width), device, dtype),
        turn_head=made(lambda: TurnHead(width), device, dtype),
        llm=language,
        codec_lm=made(lambda: CodecLM(speech), device, dtype, halved=True),  # as the release runs it
        codec=made(lambda: Codec(codec), device, torch.float32),
        chat=ChatPrompt.from_tokenizer(language.tokenizer),
        voice=None,
        settings=DialogueSettings(
            text=SamplingConfig(temperature=0.8, top_k=20, top_p=0.8),
            speech=SamplingConfig(top_k=2),
            segmenter=SegmenterConfig(),
            preroll_chunks=0,
        ),
    )
    built.encoder.mean.zero_()
    built.encoder.istd.fill_(1.0)
    return built


@dataclass(frozen=True)
class Omni:
    """What LLaMA-Omni has instead of Freeze-Omni's encoder, adapter and decoders."""

    encoder: WhisperEncoder
    adaptor: SpeechAdaptor
    unit_ctc: UnitCTC
    vocoder: UnitVocoder


def omni(shape: Shape, device: torch.device, dtype: torch.dtype) -> Omni:
    """LLaMA-Omni's parts at the width of ``shape``'s LLM."""
    whisper, units, vocoder = WhisperConfig(), UnitCTCConfig(llm_dim=shape.llm_dim), UnitVocoderConfig()
    if shape.small:
        whisper = WhisperConfig(width=32, heads=2, layers=2)
        units = UnitCTCConfig(llm_dim=shape.llm_dim, width=32, heads=2, linear_units=48)
        vocoder = UnitVocoderConfig(upsample_initial_channel=64, latent_dim=16)
    return Omni(
        made(lambda: WhisperEncoder(whisper), device, dtype),
        made(
            lambda: SpeechAdaptor(SpeechAdaptorConfig(encoder_dim=whisper.width, llm_dim=shape.llm_dim)), device, dtype
        ),
        made(lambda: UnitCTC(units), device, dtype),
        made(lambda: UnitVocoder(vocoder), device, torch.float32),
    )

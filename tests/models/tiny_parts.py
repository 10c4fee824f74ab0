"""A tiny Freeze-Omni around any tiny LLM, for tests of conversations: random weights, always the same ones."""

from dataclasses import replace

import torch

from icebreaker.audio.fbank import Fbank
from icebreaker.dialogue import DialogueSettings, Parts
from icebreaker.models.adapter import Adapter, AdapterConfig
from icebreaker.models.chat import ChatPrompt
from icebreaker.models.codec import Codec, CodecConfig
from icebreaker.models.codec_lm import CodecLM, CodecLMConfig
from icebreaker.models.ctc_search import CTCSearchConfig
from icebreaker.models.encoder import Encoder, EncoderConfig
from icebreaker.models.llm import LLM
from icebreaker.models.ngram import NGram
from icebreaker.models.prompts import Prompts
from icebreaker.models.turn_head import TurnHead


def tiny_parts(llm: LLM, settings: DialogueSettings) -> Parts:
    """Everything that a dialogue needs, always with the same weights."""
    torch.manual_seed(5)
    width = llm.width
    encoder = Encoder(
        EncoderConfig(
            subsampling_dim=8, width=16, heads=2, feed_forward_dim=24, layers=2, left_chunks=2, dropout=0.0,
            positional_dropout=0.0,
        )
    )  # fmt: skip
    codec = Codec(
        CodecConfig(
            upsample_initial_channel=16, resblock_kernel_sizes=(3,), resblock_dilation_sizes=((1,),), codes=16,
            latent_dim=128, encoder_channels=8, voice_codes=0, voice=(),
        )
    )  # fmt: skip
    modules = {
        "encoder": encoder,
        "adapter": Adapter(AdapterConfig(encoder_dim=16, llm_dim=width)),
        "prompts": Prompts(width, 3, 9),
        "turn_head": TurnHead(width),
        "codec_lm": CodecLM(CodecLMConfig(codes=16, llm_dim=width, hidden=16, linear_units=24, blocks=2, heads=2)),
        "codec": codec,
    }
    for module in modules.values():
        module.eval().requires_grad_(False)
    return Parts(
        fbank=Fbank(), llm=llm, voice=None, settings=settings,
        chat=ChatPrompt.from_tokenizer(llm.tokenizer, settings.system), **modules,
    )  # fmt: skip


def with_second_pass(parts: Parts) -> Parts:
    """``parts`` with ears that hear in the LLM's tokens, and a language in which anything can be said."""
    torch.manual_seed(9)
    table = parts.llm.embedding.weight
    adapter = Adapter(replace(parts.adapter.config, vocabulary=len(table))).eval().requires_grad_(False)
    assert adapter.lookup is not None
    adapter.lookup.follow(table)
    adapter.project.weight.mul_(6 * float(table.std()) / float(adapter.project.weight.std()))
    language = NGram.counted([(tuple(range(20, 60)), 1)], len(table), 2)
    settings = replace(parts.settings, second_pass=CTCSearchConfig(weight=0.1, bonus=2.0))
    return replace(parts, adapter=adapter, language=language, settings=settings)

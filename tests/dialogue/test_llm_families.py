"""A spoken turn with an LLM of any family: the same code, each family's own chat template."""

from dataclasses import replace

import pytest
import torch
from tiny_llm import FAMILIES, tiny_tokenizer
from torch import Tensor

from icebreaker.audio.fbank import Fbank
from icebreaker.dialogue import Dialogue, DialogueSettings, Parts
from icebreaker.duplex import Committed, DuplexConfig, ReplyFinished, SpeechStarted
from icebreaker.models.adapter import Adapter, AdapterConfig
from icebreaker.models.chat import ChatPrompt
from icebreaker.models.codec import Codec, CodecConfig
from icebreaker.models.codec_lm import CodecLM, CodecLMConfig
from icebreaker.models.encoder import Encoder, EncoderConfig
from icebreaker.models.llm import LLM
from icebreaker.models.prompts import Prompts
from icebreaker.models.sampling import SamplingConfig
from icebreaker.models.turn_head import TurnHead

TEMPLATES = {
    "llama": (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n\n{{ m['content'] }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n\n{% endif %}"
    ),
    "mistral": (
        "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
        "{% elif m['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% else %}{{ m['content'] }}<|im_end|>{% endif %}{% endfor %}"
    ),
    "gemma2": (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}<|im_start|>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
        "{{ m['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
    ),
}
TEMPLATES["gemma3"] = TEMPLATES["gemma2"]
NEVER = DuplexConfig(take_threshold=1.0, ignore_threshold=1.0)


def tiny_parts(family: str) -> Parts:
    torch.manual_seed(5)
    tokenizer = tiny_tokenizer(TEMPLATES[family]) if family in TEMPLATES else tiny_tokenizer()
    llm = LLM(FAMILIES[family](), tokenizer)
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
    settings = DialogueSettings(text=SamplingConfig(), duplex=NEVER, max_text_tokens=40, max_codes=12)
    return Parts(
        fbank=Fbank(), llm=llm, voice=None, settings=settings,
        chat=ChatPrompt.from_tokenizer(tokenizer, "You are kind."), **modules,
    )  # fmt: skip


def turn(dialogue: Dialogue, chunks: Tensor, seed: int = 0) -> tuple[str, Tensor, int]:
    state = dialogue.signal(0, SpeechStarted(), dialogue.initial_state([seed], 300))
    for chunk in chunks:
        _, state = dialogue.step(chunk[None], [True], state)
    state = dialogue.signal(0, Committed(), state)
    text, audio = "", []
    for _ in range(400):
        (output,), state = dialogue.step(torch.zeros(1, 2560), [False], state)
        text += output.text
        audio.append(output.waveform)
        if output.done:
            break
    state = dialogue.signal(0, ReplyFinished(), state)
    return text, torch.cat(audio), int(state.context.length[0])


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_spoken_turn(family: str) -> None:
    parts = tiny_parts(family)
    chunks = 0.1 * torch.randn(4, 2560, generator=torch.Generator().manual_seed(1))
    dialogue = Dialogue(parts)
    text, audio, length = turn(dialogue, chunks)
    chat = parts.chat
    listened = len(chat.before_ids) + len(chat.prefix_ids(first=True)) + 3 + 2 * 4 + len(chat.suffix_ids)
    assert listened < length <= listened + 40
    assert len(text) > 0
    assert len(audio) > 0
    assert len(audio) % 600 == 0
    assert bool(audio.isfinite().all())
    again = turn(dialogue, chunks)
    assert again[0] == text
    torch.testing.assert_close(again[1], audio)


def test_seeds_decide_the_draws() -> None:
    parts = tiny_parts("qwen2")
    settings = replace(parts.settings, text=replace(parts.settings.text, top_k=50, temperature=1.5))
    dialogue = Dialogue(replace(parts, settings=settings))
    chunks = torch.zeros(2, 2560)
    assert turn(dialogue, chunks, seed=1)[0] == turn(dialogue, chunks, seed=1)[0]
    assert len({turn(dialogue, chunks, seed=seed)[0] for seed in range(4)}) > 1

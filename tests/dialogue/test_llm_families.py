"""A spoken turn with an LLM of any family: the same code, each family's own chat template."""

from dataclasses import replace

import pytest
import torch
from tiny_llm import FAMILIES, tiny_tokenizer
from tiny_parts import tiny_parts
from torch import Tensor

from icebreaker.dialogue import Dialogue, DialogueSettings, Parts
from icebreaker.duplex import Committed, DuplexConfig, ReplyFinished, SpeechStarted
from icebreaker.models.llm import LLM
from icebreaker.models.sampling import SamplingConfig

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


def parts_around(family: str) -> Parts:
    tokenizer = tiny_tokenizer(TEMPLATES[family]) if family in TEMPLATES else tiny_tokenizer()
    torch.manual_seed(5)
    settings = DialogueSettings(
        system="You are kind.", text=SamplingConfig(), duplex=NEVER, max_text_tokens=40, max_codes=12
    )
    return tiny_parts(LLM(FAMILIES[family](), tokenizer), settings)


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
    parts = parts_around(family)
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
    parts = parts_around("qwen2")
    settings = replace(parts.settings, text=replace(parts.settings.text, top_k=50, temperature=1.5))
    dialogue = Dialogue(replace(parts, settings=settings))
    chunks = torch.zeros(2, 2560)
    assert turn(dialogue, chunks, seed=1)[0] == turn(dialogue, chunks, seed=1)[0]
    assert len({turn(dialogue, chunks, seed=seed)[0] for seed in range(4)}) > 1

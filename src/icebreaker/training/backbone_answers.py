"""What a text LLM answers, greedily, against what its conversations say. Knows nothing of training or of files."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from icebreaker.training.conversations import DEFAULT_SYSTEM, Conversation, heard_ids, paced, plain
from icebreaker.training.mishearing import Confusions

__all__ = ["Spoken", "answer_accuracy", "fed"]

LONGEST_ANSWER = 60  # tokens


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """The user's turns as ears would bring them: paced, without marks, and perhaps misheard."""

    confusions: Confusions
    mishear: float = 0.0  # the share of tokens is drawn from 0 to this for each turn
    seed: int = 0


@torch.inference_mode()
def answer_accuracy(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    conversations: Sequence[Conversation],
    batch: int = 32,
    spoken: Spoken | None = None,
) -> dict[str, float]:
    """Share of greedy last answers that equal the reference (case and punctuation aside), in all and by kind."""
    correct: dict[str, list[float]] = {}
    rng = random.Random(spoken.seed if spoken else 0)
    pad, eos = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    for start in range(0, len(conversations), batch):
        group = conversations[start : start + batch]
        prompts = [_prompt(conversation, tokenizer, spoken, rng) for conversation in group]
        width = max(map(len, prompts))
        ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts], device=model.device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device)
        output = model.generate(
            inputs_embeds=fed(model, ids), attention_mask=mask, max_new_tokens=LONGEST_ANSWER, do_sample=False,
            eos_token_id=eos, pad_token_id=pad,
        )  # fmt: skip
        for conversation, row in zip(group, output, strict=True):
            said = plain(tokenizer.decode(row, skip_special_tokens=True))
            hit = float(said == plain(conversation.turns[-1][1]))
            correct.setdefault("accuracy", []).append(hit)
            correct.setdefault(f"accuracy/{conversation.kind}", []).append(hit)
    return {name: sum(hits) / len(hits) for name, hits in correct.items()}


def fed(model: Qwen2ForCausalLM, ids: Tensor) -> Tensor:
    """Input embeddings [B, L, D] of ``ids`` [B, L]: the padding token stands for a pause of speech, a zero vector."""
    embeddings: Tensor = model.get_input_embeddings()(ids)
    return embeddings.masked_fill((ids == model.config.pad_token_id)[..., None], 0.0)


def _prompt(
    conversation: Conversation, tokenizer: PreTrainedTokenizerFast, spoken: Spoken | None, rng: random.Random
) -> list[int]:
    """ChatML up to where the last answer begins."""
    ids = tokenizer.encode(f"<|im_start|>system\n{conversation.system or DEFAULT_SYSTEM}<|im_end|>\n")
    for role, text in conversation.turns[:-1]:
        ids += tokenizer.encode(f"<|im_start|>{role}\n")
        if spoken and role == "user":
            heard = heard_ids(text, tokenizer, spoken.confusions, spoken.mishear, rng)
            ids += paced(heard, tokenizer.pad_token_id, rng)
        else:
            ids += tokenizer.encode(text)
        ids += tokenizer.encode("<|im_end|>\n")
    return [*ids, *tokenizer.encode("<|im_start|>assistant\n")]

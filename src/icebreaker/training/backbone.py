"""Stage 0: a small text LLM, trained on conversations and then frozen for good. Knows nothing of speech.

Icebreaker rides on any Hugging Face LLM; this stage exists so that one can be tried without any download. The result is
an ordinary Hugging Face folder (Qwen2 architecture, byte-level BPE, ChatML template), stored in half precision.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from icebreaker.config import to_mapping
from icebreaker.models.llm import LLM
from icebreaker.training.conversations import (
    DEFAULT_SYSTEM,
    Conversation,
    MixConfig,
    TextBatch,
    batches_from,
    plain,
    read_conversations,
)
from icebreaker.training.loop import OptimConfig, Run, StepReport, train

__all__ = ["BackboneConfig", "answer_accuracy", "build_model", "run", "save_folder", "text_loss", "tokenizer_for"]

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """What trains and on what. ``data`` holds train.jsonl and valid.jsonl, one conversation a line."""

    optim: OptimConfig
    data: Path
    output: Path
    mix: MixConfig = field(default_factory=MixConfig)
    stage: str = "backbone"
    start_from: Path | None = None  # go on from this Hugging Face folder; its tokenizer and embeddings stay
    vocab_size: int = 2048
    hidden_size: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    ffn: int = 768
    max_positions: int = 2048
    rope_theta: float = 10_000.0
    evaluate_every: int = 500
    evaluate_conversations: int = 160
    threads: int = 0  # 0: leave torch's choice alone


def tokenizer_for(texts: Iterator[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on ``texts``, cut as Qwen2 cuts (digits apart), with the ChatML template.

    transformers 5 puts Qwen2's own normaliser and cuts in place of the stored ones when it loads a Qwen2 folder, so a
    tokenizer trained with any others would silently change.
    """
    tokenizer = Tokenizer(models.BPE())
    qwen2 = Qwen2Tokenizer().backend_tokenizer
    tokenizer.normalizer, tokenizer.pre_tokenizer = qwen2.normalizer, qwen2.pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(SPECIAL),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHATML
    return fast


def build_model(config: BackboneConfig, tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    """A Qwen2 of the configured size with tied embeddings, its weights drawn from ``config.optim.seed``."""
    torch.manual_seed(config.optim.seed)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads,
            intermediate_size=config.ffn,
            max_position_embeddings=config.max_positions,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            tie_word_embeddings=True,
            initializer_range=0.04,  # 1 / sqrt(hidden) scaled down: the default suits far wider models
            eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
            bos_token_id=None,
            pad_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        )
    )


def run(config: BackboneConfig, progress: Callable[[StepReport], None] = lambda report: None) -> None:
    """Train, evaluate and write ``output/llm`` (the Hugging Face folder) beside last.pt and metrics.jsonl."""
    if config.threads:
        torch.set_num_threads(config.threads)
    conversations = read_conversations(config.data / "train.jsonl")
    valid = read_conversations(config.data / "valid.jsonl")
    if config.start_from is None:
        tokenizer = tokenizer_for(_texts(conversations), config.vocab_size)
        model = build_model(config, tokenizer)
    else:  # embeddings stay, so a speech decoder that was trained on them stays valid
        earlier = LLM.load(config.start_from)
        tokenizer, model = earlier.tokenizer, earlier.model.requires_grad_(True)
        model.get_input_embeddings().requires_grad_(False)
    run_ = Run({"llm": model}, config.optim)

    def loss_fn(batch: TextBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        return text_loss(model, batch)

    def evaluate() -> Mapping[str, float]:
        model.eval()
        figures = answer_accuracy(model, tokenizer, valid[:: max(1, len(valid) // config.evaluate_conversations)])
        model.train()
        save_folder(model, tokenizer, config.output / "llm-partial")
        return figures

    model.train()
    train(
        run_, batches_from(conversations, tokenizer, config.mix, config.optim.seed), loss_fn, config.output,
        evaluate=evaluate, evaluate_every=config.evaluate_every, progress=progress,
    )  # fmt: skip
    save_folder(model, tokenizer, config.output / "llm")
    (config.output / "config.json").write_text(json.dumps(to_mapping(config), indent=2))
    shutil.rmtree(config.output / "llm-partial", ignore_errors=True)


def text_loss(model: Qwen2ForCausalLM, batch: TextBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Weighted mean cross entropy in nats, and the plain mean over the assistants' tokens for the log.

    The padding token stands for the pauses of speech (``MixConfig.paced_probability``) and is fed as a zero vector.
    """
    embeddings = model.get_input_embeddings()(batch.ids[:, :-1])
    embeddings = embeddings.masked_fill((batch.ids[:, :-1] == model.config.pad_token_id)[..., None], 0.0)
    hidden_states = model.model(inputs_embeds=embeddings, attention_mask=batch.mask[:, :-1]).last_hidden_state
    weights = batch.weights[:, 1:]
    wanted = weights > 0
    logits = model.lm_head(hidden_states[wanted])  # padding is never projected onto the vocabulary
    losses = F.cross_entropy(logits, batch.ids[:, 1:][wanted], reduction="none")
    scale = weights[wanted]
    answers = scale == 1
    return (losses * scale).sum() / scale.sum(), {"answer_loss": losses.detach()[answers].mean()}


@torch.inference_mode()
def answer_accuracy(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, conversations: Sequence[Conversation], batch: int = 32
) -> dict[str, float]:
    """Share of greedy last answers that equal the reference (case and punctuation aside), in all and by kind."""
    correct: dict[str, list[float]] = {}
    for start in range(0, len(conversations), batch):
        group = conversations[start : start + batch]
        prompts = [tokenizer.encode(_chatml(c, c.turns[:-1]) + "<|im_start|>assistant\n") for c in group]
        width = max(map(len, prompts))
        pad, eos = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
        ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        output = model.generate(
            ids, attention_mask=mask, max_new_tokens=60, do_sample=False, eos_token_id=eos, pad_token_id=pad
        )
        for conversation, row in zip(group, output[:, width:], strict=True):
            heard = plain(tokenizer.decode(row, skip_special_tokens=True))
            hit = float(heard == plain(conversation.turns[-1][1]))
            correct.setdefault("accuracy", []).append(hit)
            correct.setdefault(f"accuracy/{conversation.kind}", []).append(hit)
    return {name: sum(hits) / len(hits) for name, hits in correct.items()}


def save_folder(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the Hugging Face folder in half precision, aside first: whoever waits for it never sees half of it."""
    aside = folder.with_name(folder.name + ".writing")
    shutil.rmtree(aside, ignore_errors=True)
    half = Qwen2ForCausalLM(model.config).to(torch.float16)
    half.load_state_dict(model.state_dict())
    half.tie_weights()
    half.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids("<|im_end|>")
    half.save_pretrained(aside)
    tokenizer.save_pretrained(aside)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(aside, folder)


def _texts(conversations: Sequence[Conversation]) -> Iterator[str]:
    for conversation in conversations:
        yield conversation.system or DEFAULT_SYSTEM
        for role, text in conversation.turns:
            yield text
            if role == "user":
                yield plain(text)


def _chatml(conversation: Conversation, turns: Sequence[tuple[str, str]]) -> str:
    messages = [("system", conversation.system or DEFAULT_SYSTEM), *turns]
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in messages)

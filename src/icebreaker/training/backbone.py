"""Stage 0: a small text LLM, trained on conversations and then frozen for good. Knows nothing of speech.

Icebreaker rides on any Hugging Face LLM; this stage exists so that one can be tried without any download. The result is
an ordinary Hugging Face folder (Qwen2 architecture, byte-level BPE, ChatML template), stored in half precision.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from icebreaker.checkpoints.weights_file import share_weights
from icebreaker.config import to_mapping
from icebreaker.errors import TrainingError
from icebreaker.models.llm import LLM
from icebreaker.nn.weights import weights_sha256
from icebreaker.training.backbone_answers import Spoken, answer_accuracy, fed
from icebreaker.training.conversations import (
    DEFAULT_SYSTEM,
    Conversation,
    MixConfig,
    TextBatch,
    batches_from,
    plain,
    read_conversations,
)
from icebreaker.training.devices import device_of, moved
from icebreaker.training.frozen import stays_frozen
from icebreaker.training.loop import OptimConfig, Run, StepReport, train
from icebreaker.training.mishearing import confusable_tokens
from icebreaker.training.processes import is_main
from icebreaker.training.sharding import whole_state

__all__ = ["BackboneConfig", "build_model", "evaluation", "run", "save_folder", "text_loss", "tokenizer_for"]

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
    """Train, evaluate and write ``output/llm`` (the Hugging Face folder) beside last.pt, metrics.jsonl and config.json.

    Raises:
        DataError: the conversations cannot be read.
        TrainingError: something cannot be saved, or embeddings moved that were to stay.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    device = device_of(config)
    conversations = read_conversations(config.data / "train.jsonl")
    valid = read_conversations(config.data / "valid.jsonl")
    if config.start_from is None:
        tokenizer = tokenizer_for(_texts(conversations), config.vocab_size)
        model = build_model(config, tokenizer)
    else:
        earlier = LLM.load(config.start_from)
        tokenizer, model = earlier.tokenizer, earlier.model.requires_grad_(True)
    model.to(device)
    embeddings = model.get_input_embeddings()
    # What was trained on the embeddings of an earlier backbone, a speech decoder or an adapter, stays valid.
    still = stays_frozen(embeddings, "the embeddings") if config.start_from else contextlib.nullcontext()
    valid = valid[:: max(1, len(valid) // config.evaluate_conversations)]

    def evaluate() -> Mapping[str, float]:
        figures = evaluation(model, tokenizer, valid, config.mix)
        save_folder(model, tokenizer, config.output / "llm-partial")
        return figures

    model.train()
    with still:
        train(
            Run({"llm": model}, config.optim, llm=model),
            batches_from(conversations, tokenizer, config.mix, config.optim.seed),
            lambda batch: text_loss(model, moved(batch, device)), config.output,
            evaluate=evaluate, evaluate_every=config.evaluate_every, progress=progress,
        )  # fmt: skip
    save_folder(model, tokenizer, config.output / "llm")
    if is_main():
        _save_config(config.output, {**to_mapping(config), "embeddings_sha256": weights_sha256(embeddings)})
        shutil.rmtree(config.output / "llm-partial", ignore_errors=True)


def evaluation(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, valid: Sequence[Conversation], mix: MixConfig
) -> dict[str, float]:
    """Accuracy of answers to written questions, by kind; and to paced and misheard ones where ``mix`` trains these."""
    model.eval()
    figures = answer_accuracy(model, tokenizer, valid)
    if mix.paced_probability:
        confusions = confusable_tokens(tokenizer)
        for name, share in (("paced", 0.0), ("misheard", mix.mishear)):
            spoken = Spoken(confusions=confusions, mishear=share)
            figures[f"accuracy_{name}"] = answer_accuracy(model, tokenizer, valid, spoken=spoken)["accuracy"]
    model.train()
    return figures


def text_loss(model: Qwen2ForCausalLM, batch: TextBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Weighted mean cross entropy in nats, and the plain mean over the assistants' tokens for the log.

    The padding token stands for the pauses of speech (``MixConfig.paced_probability``) and is fed as a zero vector.
    """
    embeddings = fed(model, batch.ids[:, :-1])
    body = model.model(inputs_embeds=embeddings, attention_mask=batch.mask[:, :-1], use_cache=False)
    hidden_states = body.last_hidden_state
    weights = batch.weights[:, 1:]
    wanted = weights > 0
    logits = model.lm_head(hidden_states[wanted])  # padding is never projected onto the vocabulary
    losses = F.cross_entropy(logits, batch.ids[:, 1:][wanted], reduction="none")
    scale = weights[wanted]
    answers = scale == 1
    return (losses * scale).sum() / scale.sum(), {"answer_loss": losses.detach()[answers].mean()}


def save_folder(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the Hugging Face folder in half precision, aside first: whoever waits for it never sees half of it.

    Raises:
        TrainingError: it could not be written; what was there before is whole.
    """
    aside, earlier = (folder.with_name(f"{folder.name}.{end}") for end in ("writing", "earlier"))
    weights = whole_state(model)  # all processes gather, the main one writes
    if not is_main():
        return
    half = Qwen2ForCausalLM(model.config).to(torch.float16)
    half.load_state_dict(weights)
    half.tie_weights()
    half.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids("<|im_end|>")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        half.save_pretrained(aside)
        share_weights(aside)
        tokenizer.save_pretrained(aside)
        shutil.rmtree(earlier, ignore_errors=True)
        if folder.exists():
            os.replace(folder, earlier)
        os.replace(aside, folder)
    except (OSError, SafetensorError) as error:
        if earlier.exists() and not folder.exists():
            os.replace(earlier, folder)
        shutil.rmtree(aside, ignore_errors=True)
        raise _unsaved(folder, error) from error
    shutil.rmtree(earlier, ignore_errors=True)


def _save_config(output: Path, values: Mapping[str, object]) -> None:
    aside = output / "config.json.partial"
    try:
        aside.write_text(json.dumps(values, indent=2) + "\n")
        os.replace(aside, output / "config.json")
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise _unsaved(output / "config.json", error) from error


def _unsaved(path: Path, error: Exception) -> TrainingError:
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return TrainingError(
        f"{path}: could not save the language model: {reason}; free some disk space and run the stage again, "
        "it goes on from its last checkpoint"
    )


def _texts(conversations: Sequence[Conversation]) -> Iterator[str]:
    for conversation in conversations:
        yield conversation.system or DEFAULT_SYSTEM
        for role, text in conversation.turns:
            yield text
            if role == "user":
                yield plain(text)

"""What the input stages share: encoder and adapter as one, and the pieces of a chat. Knows nothing of losses."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from icebreaker.config import from_mapping
from icebreaker.data.corpus import read_conversations
from icebreaker.data.manifest import Item
from icebreaker.data.text import normalise
from icebreaker.models.adapter import Adapter, AdapterConfig
from icebreaker.models.chat import ChatPrompt
from icebreaker.models.encoder import Encoder
from icebreaker.models.llm import LLM
from icebreaker.models.token_lookup import TokenLookup
from icebreaker.training.ctc import ctc_loss
from icebreaker.training.hearing import load_encoder
from icebreaker.training.llm_layout import ids_of
from icebreaker.training.stage_files import load_into, stage_config

__all__ = ["Chat", "Ears", "Heard", "heard_ids", "load_ears", "project", "token_ctc_loss"]


class Heard(NamedTuple):
    """What the ears made of a batch."""

    frames: Tensor  # [B, T, E] of the encoder
    lengths: Tensor  # [B]
    vectors: list[Tensor]  # [n, D] a row, of the adapter before its lookup
    speech: list[Tensor]  # [n, D] a row, for the LLM


class Ears(nn.Module):
    """Encoder and adapter as one: padded features to a list of LLM input embeddings."""

    def __init__(self, encoder: Encoder, adapter: Adapter) -> None:
        super().__init__()
        self.encoder = encoder
        self.adapter = adapter

    def forward(self, fbank: Tensor, lengths: Tensor, chunks: tuple[int, int]) -> Heard:
        """Hear features [B, T, 80] at a chunk size and left chunks."""
        frames, frame_lengths = self.encoder.encode(fbank, lengths, chunk_size=chunks[0], left_chunks=chunks[1])
        vectors = project(self.adapter, frames, frame_lengths)
        lookup = self.adapter.lookup
        return Heard(frames, frame_lengths, vectors, vectors if lookup is None else [lookup(row) for row in vectors])


def load_ears(folder: Path) -> Ears:
    """Encoder and adapter as stage alignment left them."""
    settings = stage_config(folder)["adapter"]
    ears = Ears(load_encoder(folder), Adapter(from_mapping(AdapterConfig, settings, f"{folder}/config.json: adapter")))
    load_into(ears.adapter, folder, "adapter")
    return ears


def project(adapter: Adapter, frames: Tensor, lengths: Tensor) -> list[Tensor]:
    """The adapter's vectors [n, D] per row of padded encoder frames [B, T, E], before its lookup."""
    mask = torch.arange(frames.shape[1], device=frames.device) < lengths[:, None]
    vectors, _ = adapter.project_frames(frames, adapter.initial_state(len(frames)), mask)
    counts = ((lengths + adapter.stride - 1) // adapter.stride).tolist()
    return [row[:count] for row, count in zip(vectors, counts, strict=True)]


def token_ctc_loss(lookup: TokenLookup, vectors: list[Tensor], ids: list[list[int]]) -> Tensor:
    """CTC loss per token of an adapter's vectors [n, D] per row against token ids; a pause is the blank."""
    logits = lookup.logits(nn.utils.rnn.pad_sequence(vectors, batch_first=True))
    lengths = torch.tensor([len(row) for row in vectors])  # ``ctc_loss`` takes them to the logits
    return ctc_loss(logits, lengths, [1 + torch.tensor(row) for row in ids])


def heard_ids(llm: LLM, item: Item, *, leading_space: bool) -> list[int]:
    """The tokens an adapter is to say for ``item``, as plain as heard.

    With ``leading_space`` the first word is the same token as it is later in a sentence; a backbone has to have been
    trained on paced text of that kind (``mix.leading_space``).
    """
    return ids_of(llm, f" {item.text}" if leading_space else item.text)


class Chat:
    """The LLM's chat layout as embeddings, and the user's words as they are written."""

    def __init__(self, llm: LLM, conversations: str | None = None) -> None:
        """``conversations`` is a folder of text conversations; it restores the case and marks of spoken questions."""
        prompt = ChatPrompt.from_tokenizer(llm.tokenizer)
        self.llm = llm
        self.before, self.user_prefix, self.suffix = (
            self._embed(list(ids)) for ids in (prompt.before_ids, prompt.user_prefix_ids, prompt.suffix_ids)
        )
        self.between = self._embed(list(prompt.end_ids))  # from an answer to the next user prefix
        self.end_id = prompt.end_ids[0] if prompt.end_ids else llm.eos_ids[0]
        self.written = dict[str, str]()
        for split in ("train", "valid", "test") if conversations else ():
            for conversation in read_conversations(Path(str(conversations)) / f"{split}.jsonl"):
                for turn in conversation["turns"]:
                    if turn["role"] == "user":
                        self.written.setdefault(normalise(turn["text"]), turn["text"])

    def text(self, item: Item) -> str:
        """What ``item`` says, in writing; words that are in no conversation become a plain sentence."""
        return self.written.get(normalise(item.text)) or f"{item.text.lower().capitalize()}."

    def asking(self, item: Item) -> list[Tensor]:
        """The item's question as text, up to where the answer begins."""
        return [self.before, self.user_prefix, self._embed(ids_of(self.llm, self.text(item))), self.suffix]

    def answering(self, speech: Tensor) -> list[Tensor]:
        """The same with speech [n, D] for the question, without prompts."""
        return [self.before, self.user_prefix, speech, self.suffix]

    def exchange(self, item: Item) -> list[Tensor]:
        """An earlier question and its answer as text, up to the next user prefix."""
        answer = self._embed(ids_of(self.llm, item.answer or ""))
        return [*self.asking(item)[1:], answer, self.between]

    def _embed(self, ids: list[int]) -> Tensor:
        return self.llm.embed(torch.tensor([ids], dtype=torch.long, device=self.llm.embedding.weight.device))[0]

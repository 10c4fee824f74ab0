"""What the input stages share: encoder and adapter as one, and the pieces of a chat. Knows nothing of losses."""

from pathlib import Path

import torch
from torch import Tensor, nn

from icebreaker.data.corpus import read_conversations
from icebreaker.data.manifest import Item
from icebreaker.data.text import normalise
from icebreaker.models.adapter import Adapter
from icebreaker.models.chat import ChatPrompt
from icebreaker.models.encoder import Encoder
from icebreaker.models.llm import LLM
from icebreaker.training.llm_layout import ids_of

__all__ = ["Chat", "Ears"]


class Ears(nn.Module):
    """Encoder and adapter as one: padded features to a list of LLM input embeddings."""

    def __init__(self, encoder: Encoder, adapter: Adapter) -> None:
        super().__init__()
        self.encoder = encoder
        self.adapter = adapter

    def forward(self, fbank: Tensor, lengths: Tensor, chunks: tuple[int, int]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Encoder frames [B, T, E] and their lengths, and per row the embeddings [n, D]."""
        frames, frame_lengths = self.encoder.encode(fbank, lengths, chunk_size=chunks[0], left_chunks=chunks[1])
        mask = torch.arange(frames.shape[1], device=frames.device) < frame_lengths[:, None]
        embeddings, _ = self.adapter(frames, self.adapter.initial_state(len(frames)), mask)
        stride = self.adapter.stride
        counts = ((frame_lengths + stride - 1) // stride).tolist()
        return frames, frame_lengths, [row[:count] for row, count in zip(embeddings, counts, strict=True)]


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

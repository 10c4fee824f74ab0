"""A plain pipeline as the released implementation runs it, over the same weights: what ours is compared with.

One LLM call a token through transformers' own growing cache, which is copied whole before each call, and once more as
the snapshot that the next turn starts from; text waits for a punctuation mark; the speech decoder joins its cache anew
at every code; 20 codes and 10 more of overlap before the first sound, 40 and 10 afterwards; one after the other. Where
the release might lose more time (threads that poll, a low-energy search that finds no quiet place, LLM calls for the
whole prompt's logits) this one does not.
"""

import copy
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache

from icebreaker.dialogue.parts import Parts
from icebreaker.models.codec_lm import CodecLM, CodecLMState
from icebreaker.models.codec_overlap import low_energy_cut
from icebreaker.models.sampling import sample
from icebreaker.nn.llama import LlamaLayer, rope
from icebreaker.text.rules import post_process
from icebreaker.text.segment import Segment, Segmenter, SegmenterConfig

__all__ = ["GrowingDecoder", "Reference", "copied"]

FIRST_CHUNK, CHUNK, OVERLAP, WINDOW = 20, 40, 10, 2401  # server.json of the release
ALWAYS_QUIET = float("inf")  # the cut is always found: random weights know no pauses


def copied(cache: DynamicCache) -> DynamicCache:
    """A full copy of keys and values, as the released code makes one at each call."""
    return copy.deepcopy(cache)


class GrowingDecoder:
    """The autoregressive half of the speech decoder with a cache that is joined anew at every code."""

    def __init__(self, model: CodecLM, state: CodecLMState) -> None:
        self.model, used = model, int(state.length[0])
        count = len(model.layers)
        self.keys = [state.keys[:1, i, :, :used].clone() for i in range(count)]
        self.values = [state.values[:1, i, :, :used].clone() for i in range(count)]
        self.position = state.position[:1].clone()

    def step(self, code: Tensor) -> Tensor:
        """Feed one code [1]; logits [1, codes + 4] of the next."""
        model, config = self.model, self.model.config
        x = model.embedding(code)[:, None]
        rotation = rope(self.position[:, None], config.hidden // config.heads)
        for i, layer in enumerate(model.layers):
            assert isinstance(layer, LlamaLayer)
            query, key, value = layer.project(x, rotation)
            self.keys[i] = torch.cat([self.keys[i], key], dim=2)
            self.values[i] = torch.cat([self.values[i], value], dim=2)
            scores = query @ self.keys[i].mT / key.shape[-1] ** 0.5
            x = layer.finish(x, scores.float().softmax(dim=-1).to(x.dtype) @ self.values[i])
        self.position = self.position + 1
        return model.head(model.norm(x[:, 0]))


class Reference:
    """One conversation; the text it says is given, and every token is computed and drawn all the same."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.device = parts.llm.embedding.weight.device
        self.segmenter = Segmenter(SegmenterConfig(rule="official_server"))

    def heard(self, inputs: Tensor) -> DynamicCache:
        """A conversation's cache after ``inputs`` [L, D]."""
        cache = DynamicCache()
        self._feed(inputs, cache)
        return cache

    def answer(self, cache: DynamicCache, reply: Sequence[int]) -> Iterator[Tensor]:
        """Packets [S] of the spoken ``reply`` (token ids), from the moment that the turn was taken."""
        inputs = self.parts.llm.embed(torch.tensor(self.parts.chat.suffix_ids, device=self.device))
        tokens, states, packets = list[int](), list[Tensor](), 0
        segments = self.segmenter.initial_state()
        for token in reply:
            hidden, cache = self._step(inputs, copied(cache))
            snapshot = copied(cache)  # what an interruption would go on from
            logits = self.parts.llm.logits(hidden)[None]
            sample(logits, self.parts.settings.text).tolist()  # drawn, then overruled: the text is given
            tokens.append(token)
            states.append(hidden)
            text = self.parts.llm.tokenizer.decode(tokens, skip_special_tokens=True)
            found, segments = self.segmenter.push(text, segments, packets)
            for segment in found:
                for piece in self._speak(segment, states, packets == 0):
                    packets += 1
                    yield piece
            inputs = self.parts.llm.embed(torch.tensor([token], device=self.device))
            del snapshot
        for segment in self.segmenter.finish(text, segments):
            yield from self._speak(segment, states, packets == 0)

    def _step(self, inputs: Tensor, cache: DynamicCache) -> tuple[Tensor, DynamicCache]:
        return self._feed(inputs, cache), cache

    def _feed(self, inputs: Tensor, cache: DynamicCache) -> Tensor:
        """The last hidden state [D]; ``cache`` grows."""
        decoder = self.parts.llm.model.base_model
        output = decoder(inputs_embeds=inputs[None], past_key_values=cache, use_cache=True)
        return output.last_hidden_state[0, -1]

    def _speak(self, segment: Segment, states: Sequence[Tensor], first: bool) -> Iterator[Tensor]:
        """Packets of one segment: codes, and whenever enough of them wait, sound."""
        parts, config = self.parts, self.parts.codec_lm.config
        ids = parts.llm.tokenizer.encode(post_process(segment.text), add_special_tokens=False)
        text = parts.llm.embed(torch.tensor([ids], device=self.device))
        prefix = torch.stack(list(states[segment.start : segment.stop]))[None]
        counts = (torch.tensor([each.shape[1]], device=self.device) for each in (text, prefix))
        text_length, prefix_length = counts
        decoder = GrowingDecoder(
            parts.codec_lm, parts.codec_lm.prefill(text, text_length, prefix, prefix_length, max_codes=1)
        )
        code, waiting, left = torch.tensor([config.sos], device=self.device), list[int](), 0
        chunk, carry = (FIRST_CHUNK if first else CHUNK), torch.zeros(0, device=self.device)
        for _ in range(codes_of(segment.text)):
            logits = decoder.step(code)
            logits[:, config.codes :] = -torch.inf  # random weights would end anywhere
            code = sample(logits, parts.settings.speech)
            waiting.append(int(code[0]))
            if len(waiting) == left + chunk + OVERLAP:
                piece = self._decode(waiting)[600 * left : -600 * OVERLAP]
                emitted, carry = low_energy_cut(piece, carry, WINDOW, ALWAYS_QUIET)
                assert emitted is not None
                yield self._packet(emitted)
                waiting, left = waiting[-2 * OVERLAP :], OVERLAP
        if waiting:
            yield self._packet(torch.cat([carry, self._decode(waiting)[600 * left :]]))

    def _decode(self, codes: Sequence[int]) -> Tensor:
        return self.parts.codec.decode(torch.tensor([codes], device=self.device))[0]

    def _packet(self, piece: Tensor) -> Tensor:
        return (F.hardtanh(piece) * 32767).to(torch.int16).cpu()


def codes_of(text: str) -> int:
    """How many codes a stretch of text takes when it is spoken: 15 letters a second, 40 codes a second."""
    return max(8, len(text) * 40 // 15)

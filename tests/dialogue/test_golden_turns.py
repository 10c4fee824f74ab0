"""Whole turns from stored features to stored tokens, part by part, against the official implementation's values."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from icebreaker.dialogue import Parts
from icebreaker.models.kv_cache import KVCache

EXPECTED = Path(__file__).parents[1] / "golden" / "freeze-omni-tiny" / "expected"
EXACT = {"atol": 1e-4, "rtol": 0.0}  # embeddings and probabilities
CLOSE = {"atol": 1e-3, "rtol": 0.0}  # hidden states and logits


def read(name: str) -> dict[str, Tensor]:
    with np.load(EXPECTED / name) as arrays:
        return {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays}


@pytest.fixture(scope="module")
def scenarios() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((EXPECTED / "llm.json").read_text())
    return loaded


class Conversation:
    """One conversation without a clock: what is fed to the LLM, and what comes out."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.cache: KVCache = parts.llm.new_cache(1, 256)
        self.first = True

    @torch.inference_mode()
    def feed(self, embeddings: Tensor) -> Tensor:
        hidden, self.cache = self.parts.llm(embeddings[None], self.cache, torch.tensor([len(embeddings)]))
        return hidden[0]

    def embed(self, ids: Sequence[int]) -> Tensor:
        return self.parts.llm.embed(torch.tensor([list(ids)]))[0]

    @torch.inference_mode()
    def listen(self, chunks: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Embeddings and hidden states of each chunk."""
        parts = self.parts
        encoder, adapter = parts.encoder.initial_state(1), parts.adapter.initial_state(1)
        before = [self.embed(parts.chat.prefix_ids(self.first)), parts.prompts.prompt_embeddings.weight]
        embeddings, hidden = [], []
        for chunk in chunks:  # [19, 80], the first three frames are those of the encoder's state
            frames, encoder = parts.encoder(chunk[None, 3:], encoder)
            heard, adapter = parts.adapter(frames, adapter)
            embeddings.append(torch.cat([*before, heard[0]]))
            hidden.append(self.feed(embeddings[-1]))
            before = []
        self.first = False
        return embeddings, hidden

    @torch.inference_mode()
    def answer(self, most: int = 60) -> tuple[Tensor, list[int], Tensor, Tensor]:
        """Hidden states of the suffix, greedy tokens, the state that predicted each, and all logits."""
        suffix = self.feed(self.embed(self.parts.chat.suffix_ids))
        last, ids, hidden, logits = suffix[-1], list[int](), list[Tensor](), list[Tensor]()
        while len(ids) < most:
            logits.append(self.parts.llm.logits(last))
            token = int(logits[-1].argmax())
            if token in self.parts.llm.eos_ids:
                break
            ids.append(token)
            hidden.append(last)
            if len(ids) < most:
                last = self.feed(self.embed([token]))[-1]
        return suffix, ids, torch.stack(hidden), torch.stack(logits)

    @property
    def length(self) -> int:
        return int(self.cache.length)


def lasts(hidden: Sequence[Tensor]) -> Tensor:
    return torch.stack([each[-1] for each in hidden])


def test_one_turn_value_for_value(parts: Parts, scenarios: dict[str, Any]) -> None:
    golden, close = read("llm_turn.npz"), torch.testing.assert_close
    talk = Conversation(parts)
    before = talk.feed(talk.embed(parts.chat.before_ids))
    close(before, golden["pre_hidden"], **CLOSE)
    close(parts.turn_head.logits(before), golden["pre_state_logits"], **CLOSE)
    embeddings, hidden = talk.listen(read("fbank.npz")["chunks"])
    for n, name in enumerate(["first", "second"]):
        close(embeddings[n], golden[f"{name}_chunk_embeds"], **EXACT)
        close(hidden[n], golden[f"{name}_chunk_hidden"], **CLOSE)
    close(lasts(hidden), golden["last_hidden_per_chunk"], **CLOSE)
    close(parts.turn_head.logits(lasts(hidden)), golden["state_logits"], **CLOSE)
    close(parts.turn_head(lasts(hidden)), golden["state_probs"], **EXACT)
    assert talk.length == scenarios["offline"]["kv_len_after_listen"]
    suffix, ids, states, logits = talk.answer()
    assert ids == golden["token_ids"].tolist()
    close(suffix, golden["ss_hidden"], **CLOSE)
    close(states, golden["hidden_states"], **CLOSE)
    close(logits, golden["logits"], **CLOSE)
    assert talk.length == scenarios["offline"]["kv_len_end"]
    close(talk.cache.keys[0][:, :, : talk.length], golden["final_kv_layer0_key"], **CLOSE)
    close(talk.cache.values[1][:, :, : talk.length], golden["final_kv_layer1_value"], **CLOSE)


def test_the_half_precision_cast_we_leave_out_is_within_its_tolerance(parts: Parts) -> None:
    """The release casts input embeddings to float16 even around a float32 LLM; ours stay what they are."""
    golden = read("llm_turn_halfcast.npz")
    talk = Conversation(parts)
    before = talk.feed(talk.embed(parts.chat.before_ids))
    embeddings, hidden = talk.listen(read("fbank.npz")["chunks"])
    suffix, ids, states, logits = talk.answer()
    assert ids == golden["token_ids"].tolist()
    for name, ours in {
        "pre_hidden": before, "first_chunk_embeds": embeddings[0], "first_chunk_hidden": hidden[0],
        "last_hidden_per_chunk": lasts(hidden), "state_logits": parts.turn_head.logits(lasts(hidden)),
        "state_probs": parts.turn_head(lasts(hidden)), "ss_hidden": suffix, "hidden_states": states, "logits": logits,
    }.items():  # fmt: skip
        torch.testing.assert_close(
            ours, golden[name], atol=1e-2, rtol=0.0, msg=lambda text, name=name: f"{name} {text}"
        )


def test_the_turn_head_ends_a_turn(parts: Parts, scenarios: dict[str, Any]) -> None:
    golden, expected = read("llm_scenarios.npz"), scenarios["natural_endpoint"]
    talk = Conversation(parts)
    talk.feed(talk.embed(parts.chat.before_ids))
    _, hidden = talk.listen(read("fbank.npz")["chunks"][:11])
    torch.testing.assert_close(parts.turn_head.logits(lasts(hidden)), golden["natural_state_logits"], **CLOSE)
    _, ids, states, logits = talk.answer()
    assert ids == expected["token_ids"]
    torch.testing.assert_close(states, golden["natural_hidden"], **CLOSE)
    torch.testing.assert_close(logits[-1], golden["natural_logits_last"], **CLOSE)


def test_the_turn_head_ignores_speech(parts: Parts) -> None:
    golden = read("llm_scenarios.npz")
    talk = Conversation(parts)
    talk.feed(talk.embed(parts.chat.before_ids))
    _, hidden = talk.listen(golden["rev_chunks"][:10])
    torch.testing.assert_close(parts.turn_head.logits(lasts(hidden)), golden["reversed_state_logits"], **CLOSE)
    torch.testing.assert_close(parts.turn_head(lasts(hidden)), golden["reversed_state_probs"], **EXACT)


@pytest.mark.parametrize("name", ["second", "interrupted"])
def test_a_later_turn(parts: Parts, scenarios: dict[str, Any], name: str) -> None:
    """After a whole answer, and after one that was interrupted when six tokens were out, five of them fed."""
    golden, expected = read("llm_scenarios.npz"), scenarios["second_turn" if name == "second" else name]
    talk = Conversation(parts)
    talk.feed(talk.embed(parts.chat.before_ids))
    talk.listen(read("fbank.npz")["chunks"])
    if name == "interrupted":
        _, ids, _, _ = talk.answer(most=6)
        assert ids == expected["first_tokens"]
        assert talk.length == expected["kv_len_at_interrupt"]
    else:
        talk.answer()
    _, hidden = talk.listen(golden["rev_chunks"][:8])
    assert talk.length == expected["kv_len_after_listen"]
    torch.testing.assert_close(parts.turn_head.logits(lasts(hidden)), golden[f"{name}_state_logits"], **CLOSE)
    _, ids, states, _ = talk.answer(most=24)
    assert ids == expected["token_ids"]
    torch.testing.assert_close(states, golden[f"{name}_hidden"], **CLOSE)

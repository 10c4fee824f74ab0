"""Vectors become mixtures of an LLM's tokens: exact at a token, zero at a pause, and the same in a stream."""

import pytest
import torch

from icebreaker.checkpoints.audiollm_keys import adapter_key_table
from icebreaker.errors import CheckpointError
from icebreaker.models.adapter import Adapter, AdapterConfig
from icebreaker.models.token_lookup import TokenLookup


@pytest.fixture
def lookup() -> TokenLookup:
    torch.manual_seed(0)
    made = TokenLookup(20, 64)
    made.follow(torch.randn(20, 64))
    return made


def test_a_token_and_a_pause_stay_what_they_are(lookup: TokenLookup) -> None:
    said = torch.cat([torch.zeros(1, 64), lookup.tokens])
    torch.testing.assert_close(lookup(said), said, atol=1e-3, rtol=0.0)
    assert lookup.logits(said).argmax(dim=-1).tolist() == list(range(21))


def test_logits_are_distances(lookup: TokenLookup) -> None:
    vector = torch.randn(3, 64)
    distances = (vector[:, None] - torch.cat([torch.zeros(1, 64), lookup.tokens])).square().sum(dim=-1)
    scale = 16.0 / lookup.tokens.square().sum(dim=1).mean()
    torch.testing.assert_close(lookup.logits(vector).softmax(dim=-1), (-scale * distances).softmax(dim=-1))


def test_between_two_tokens_is_half_of_each(lookup: TokenLookup) -> None:
    lookup.tokens.data *= 2.0 / lookup.tokens.norm(dim=1, keepdim=True)
    halfway = (lookup.tokens[3] + lookup.tokens[8]) / 2
    torch.testing.assert_close(lookup(10 * halfway), halfway, atol=1e-3, rtol=0.0)


def test_more_certainty_says_the_likelier_token_alone(lookup: TokenLookup) -> None:
    vector = (0.6 * lookup.tokens[1] + 0.4 * lookup.tokens[2]).detach()
    mixed = lookup(vector)
    lookup.certainty = 8.0
    torch.testing.assert_close(lookup(vector), lookup.tokens[1], atol=0.05, rtol=0)
    assert (lookup(vector) - lookup.tokens[1]).norm() < (mixed - lookup.tokens[1]).norm()


def test_reading_leaves_out_pauses_and_repetitions(lookup: TokenLookup) -> None:
    pause = torch.zeros(64)
    rows = torch.stack([pause, lookup.tokens[4], lookup.tokens[4], pause, lookup.tokens[4], lookup.tokens[0], pause])
    assert lookup.read(rows) == [4, 4, 0]
    assert lookup.read(lookup(rows)) == [4, 4, 0]
    assert lookup.read(pause[None]) == []


def test_gradients_flow_and_tokens_stay(lookup: TokenLookup) -> None:
    vectors = (lookup.tokens[2] * 0.5).detach().requires_grad_(True)
    lookup(vectors).square().sum().backward()
    assert vectors.grad is not None
    assert vectors.grad.abs().max() > 0
    assert lookup.tokens.grad is None
    assert not lookup.tokens.requires_grad


def test_an_adapter_with_lookup_streams_exactly() -> None:
    torch.manual_seed(0)
    adapter = Adapter(AdapterConfig(encoder_dim=8, llm_dim=16, vocabulary=11)).eval()
    assert adapter.lookup is not None
    adapter.lookup.follow(torch.randn(11, 16))
    frames = torch.randn(2, 12, 8)
    with torch.no_grad():
        whole, _ = adapter(frames, adapter.initial_state(2))
        state, pieces = adapter.initial_state(2), []
        for chunk in frames.split(4, dim=1):
            piece, state = adapter(chunk, state)
            pieces.append(piece)
        vectors, _ = adapter.project_frames(frames, adapter.initial_state(2))
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(adapter.lookup(vectors), whole)
    assert not torch.allclose(vectors, whole)


def test_the_official_layout_has_no_place_for_it() -> None:
    with pytest.raises(CheckpointError, match=r"got adapter\.vocabulary = 11"):
        adapter_key_table(AdapterConfig(vocabulary=11))


def test_a_wrong_table_is_named(lookup: TokenLookup) -> None:
    with pytest.raises(ValueError, match=r"looks up \(20, 64\) .* the LLM has \(21, 64\)"):
        lookup.follow(torch.zeros(21, 64))

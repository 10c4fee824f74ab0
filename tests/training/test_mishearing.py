import random
from collections import Counter

import pytest
from transformers import PreTrainedTokenizerFast

from icebreaker.training.backbone import tokenizer_for
from icebreaker.training.mishearing import MOST_CONFUSIONS, confusable_tokens, mishear

WORDS = "the capital of france is paris two to too tree three the bad pad bat pat night light right elephant"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return tokenizer_for(iter([WORDS] * 30), 420)


def test_alike_tokens_share_their_consonants(tokenizer: PreTrainedTokenizerFast) -> None:
    confusions = confusable_tokens(tokenizer)
    named = {tokenizer.decode([i]): [tokenizer.decode([j]) for j in others] for i, others in confusions.items()}
    assert " two" in named[" to"]
    assert " pad" in named[" bad"]
    assert " elephant" not in named[" bad"]
    assert all(len(others) <= MOST_CONFUSIONS for others in confusions.values())
    assert not any(i in others for i, others in confusions.items())
    assert not set(tokenizer.all_special_ids) & set(confusions)


def test_a_share_of_tokens_is_misheard_in_all_three_ways(tokenizer: PreTrainedTokenizerFast) -> None:
    confusions, rng = confusable_tokens(tokenizer), random.Random(0)
    ids = tokenizer.encode(f" {WORDS}")
    lengths, changed = Counter[int](), 0
    for _ in range(300):
        heard = mishear(ids, confusions, 0.2, rng)
        lengths[len(heard) - len(ids)] += 1
        changed += heard != ids
        assert all(each in ids or any(each in confusions.get(i, ()) for i in ids) for each in heard)
    assert changed > 290
    assert min(lengths) < -1
    assert max(lengths) > 1


def test_nothing_is_misheard_at_no_share_and_seeds_decide(tokenizer: PreTrainedTokenizerFast) -> None:
    confusions, ids = confusable_tokens(tokenizer), tokenizer.encode(f" {WORDS}")
    assert mishear(ids, confusions, 0.0, random.Random(1)) == ids
    again = [mishear(ids, confusions, 0.5, random.Random(seed)) for seed in (1, 1, 2)]
    assert again[0] == again[1] != again[2]

import pytest
import tiny_folder
import torch

from icebreaker.models.llm import LLM
from icebreaker.training.reply_states import reply_states


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    return LLM.load(tiny_folder.write_llm(tmp_path_factory.mktemp("llm")))


def test_states_are_those_of_generation(llm: LLM) -> None:
    """What a token-by-token run hands the speech decoder, at both places a state can be taken."""
    prompts = [torch.randn(length, llm.width, generator=torch.Generator().manual_seed(length)) for length in (4, 7)]
    replies = [[5, 9, 3], [8]]
    taken = {
        rule: reply_states(llm, [[p[:2], p[2:]] for p in prompts], replies, rule) for rule in ("predicting", "reading")
    }
    for row, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        cache = llm.new_cache(1, 20)
        hidden, cache = llm(prompt[None], cache, torch.tensor([len(prompt)]))
        states = [hidden[0, -1]]
        for token in reply:
            hidden, cache = llm(llm.embed(torch.tensor([[token]])), cache, torch.tensor([1]))
            states.append(hidden[0, -1])
        torch.testing.assert_close(taken["predicting"][row], torch.stack(states), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(taken["reading"][row], torch.stack(states[1:]), atol=1e-4, rtol=1e-4)

"""When each word of a segment has been said, by the text that the speech decoder looks at while it draws codes.

Layers that were trained to look at the word they speak say so (``alignment_layers``). Only when a reply is cut its
codes are read once more for it, all at once: drawing them stays as fast as it is. Knows no turns and no samples.
"""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

import torch
from torch import Tensor

from icebreaker.dialogue.parts import Parts
from icebreaker.models.codec_lm_attention import text_attention

__all__ = ["place_words", "said_at", "word_ends"]

MOST = 0.5  # of the attention: then a word is being spoken


@torch.no_grad()
def word_ends(
    parts: Parts, text: str, spoken: str, hidden: Tensor, codes: Sequence[int], *, whole: bool
) -> list[tuple[int, int]]:
    """For each word of a segment that has been said: its end in ``text``, in letters, and how many codes that took.

    Args:
        parts: of the dialogue; its settings name the layers.
        text: the segment as the LLM wrote it.
        spoken: the same as the speech decoder read it.
        hidden: [P, D] states that predicted the segment's tokens.
        codes: drawn so far.
        whole: whether these are all its codes; else the newest word may not be complete and is left out.
    """
    lm, device = parts.codec_lm, hidden.device
    encoded = parts.llm.tokenizer(spoken, add_special_tokens=False, return_offsets_mapping=True)
    tokens = parts.llm.embed(torch.tensor([encoded["input_ids"]], device=device)).to(hidden.dtype)
    prefix = (hidden[None], torch.tensor([len(hidden)], device=device)) if lm.config.prefix else (None, None)
    text_lengths, code_lengths = torch.tensor([[tokens.shape[1]], [len(codes)]], device=device)
    layers = parts.settings.alignment_layers
    stacked, context = lm.teach(
        tokens, text_lengths, torch.tensor([codes], device=device), code_lengths, *prefix, depth=max(layers) + 1
    )
    weights = [text_attention(stacked, context, layer, lm.config.split) for layer in layers]
    looked = torch.stack(weights).mean(dim=0)[0, : len(codes)].float().cpu()
    said = said_at(looked, spoken, encoded["offset_mapping"], whole=whole)
    return place_words(text, spoken, said)


def said_at(looked: Tensor, spoken: str, offsets: Sequence[tuple[int, int]], *, whole: bool) -> list[int]:
    """How many codes have been drawn when each word of ``spoken`` is said, for those that are.

    Args:
        looked: [T, L] attention to each text token, code by code.
        spoken: the text of those tokens.
        offsets: of the tokens in it, in letters.
        whole: whether more codes will follow.
    """
    ends, newest = list[int](), 0
    for number, match in enumerate(re.finditer(r"\S+", spoken)):
        tokens = [i for i, (begin, end) in enumerate(offsets) if begin < match.end() and end > match.start()]
        here = (looked[:, tokens].sum(dim=-1) > MOST).nonzero()
        if len(here):
            newest = number
        ends.append(max([*ends[-1:], int(here[-1]) + 1 if len(here) else 0]))
    if not whole:
        return ends[:newest]
    return [*ends[:newest], *[len(looked)] * (len(ends) - newest)]


def place_words(text: str, spoken: str, said: Sequence[int]) -> list[tuple[int, int]]:
    """The words of ``text``, as letters up to their end, for what was ``said`` of ``spoken``.

    Words that both have are the same ones; between them ("21" is "twenty one", "3" is "three") they share evenly. What
    is not spoken goes with the word before it, at the beginning with the first one.
    """
    ends = [match.end() for match in re.finditer(r"\S+", text)]
    places = []
    for _, first, stop, begin, end in SequenceMatcher(None, text.split(), spoken.split(), False).get_opcodes():
        for number in range(first, stop):
            word = max(0, begin - (-(number + 1 - first) * (end - begin) // (stop - first)) - 1)
            if word < len(said):
                places.append((ends[number], said[word]))
    return places

"""Any Hugging Face causal LM as a frozen function of embeddings. Knows nothing of speech, sessions or sampling.

What no ready-made generation loop offers together: embeddings in, the hidden state of each position out, rows of a
batch that drift apart, and contexts that grow and are taken back (``kv_cache.KVCache``).
"""

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast

from icebreaker.errors import CheckpointError
from icebreaker.models.kv_cache import CacheWriter, KVCache, causal_mask
from icebreaker.models.llm_folder import folder_sha256, read_model, read_tokenizer

__all__ = ["LLM"]


class LLM(nn.Module):
    """A frozen causal LM: no parameter requires a gradient, always in eval mode, part of no checkpoint of ours."""

    def __init__(self, model: Any, tokenizer: Any, folder: Path | None = None) -> None:
        """Wrap a transformers causal LM and its tokenizer.

        Args:
            model: ``transformers`` causal LM; switched to eval mode and frozen.
            tokenizer: its tokenizer.
            folder: where both came from, for ``sha256``.

        Raises:
            CheckpointError: the model cannot be driven by embeddings and a key-value cache.
        """
        super().__init__()
        self.model = model.requires_grad_(False).eval()
        self.tokenizer = tokenizer
        self.folder = folder
        self._decoder = {"decoder": model.base_model}  # in a dict: a second registration would double every key
        self._layer_masks = _layer_masks(model.config.get_text_config())
        self._additive = model.base_model.config._attn_implementation == "eager"  # others take booleans
        self._layer_shapes = self._probe()
        self._head = self._find_head()
        self.ticks: Callable[[Tensor, KVCache, Tensor, int], Tensor | None] | None = (
            None  # a faster way for few positions
        )
        self.few_logits: Callable[[Tensor], Tensor | None] | None = None  # and for their head

    @classmethod
    def load(cls, folder: Path | str, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Self:
        """Load a Hugging Face folder; nothing is fetched.

        Raises:
            CheckpointError: the folder is missing, damaged, incomplete, or not a usable causal LM's.
        """
        folder = Path(folder)
        model = read_model(folder, device, dtype)
        try:
            return cls(model, read_tokenizer(folder), folder)
        except CheckpointError as error:
            raise CheckpointError(str(error) if str(folder) in str(error) else f"{folder}: {error}") from error

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode, whatever the module around it does: frozen means frozen."""
        return super().train(False)

    @property
    def width(self) -> int:
        """Width of embeddings and hidden states."""
        return int(self.embedding.weight.shape[1])

    @property
    def vocab_size(self) -> int:
        """Number of logits; can exceed the tokenizer's ids."""
        return int(self.model.get_output_embeddings().out_features)

    @property
    def embedding(self) -> nn.Embedding:
        """The token embedding module, scaling included."""
        return self.model.get_input_embeddings()  # type: ignore[no-any-return]

    @property
    def attends_to_all(self) -> bool:
        """Whether no layer forgets: none has a window or chunks of attention."""
        return list(self._layer_masks.values()) == [{}]

    @functools.cached_property
    def eos_ids(self) -> tuple[int, ...]:
        """Ids that end an answer, the tokenizer's own first."""
        configured = self.model.generation_config.eos_token_id
        more = configured if isinstance(configured, list) else [configured]
        ids = dict.fromkeys([self.tokenizer.eos_token_id, *more])
        return tuple(i for i in ids if i is not None)

    @functools.cached_property
    def sha256(self) -> str:
        """Fingerprint of the tensors stored in the folder, whatever device and dtype they are used in."""
        if self.folder is None:
            raise ValueError("this LLM was not loaded from a folder; use LLM.load, or nn.weights.weights_sha256")
        return folder_sha256(self.folder)

    def embed(self, ids: Tensor) -> Tensor:
        """[B, L] ids to [B, L, D] embeddings that stand for them exactly (Gemma's scale is in)."""
        return self.embedding(ids)  # type: ignore[no-any-return]

    def logits(self, hidden_states: Tensor) -> Tensor:
        """[.., D] hidden states to [.., V] logits, with whatever the model does after its head (scale, soft cap)."""
        ticked = None if self.few_logits is None else self.few_logits(hidden_states)
        return self._head(hidden_states) if ticked is None else ticked

    def new_cache(self, slots: int, capacity: int) -> KVCache:
        """Empty slots for ``slots`` sessions of at most ``capacity`` positions each."""
        weight = self.embedding.weight
        return KVCache(
            tuple(weight.new_zeros(slots, heads, capacity, key) for heads, key, _ in self._layer_shapes),
            tuple(weight.new_zeros(slots, heads, capacity, value) for heads, _, value in self._layer_shapes),
            torch.zeros(slots, dtype=torch.long, device=weight.device),
        )

    def cache_bytes_per_position(self) -> int:
        """Memory that one position of one session takes in the cache."""
        return self.embedding.weight.element_size() * sum(h * (k + v) for h, k, v in self._layer_shapes)

    @torch.no_grad()
    def forward(self, embeddings: Tensor, cache: KVCache, lengths: Tensor) -> tuple[Tensor, KVCache]:
        """Append ``lengths[b]`` positions to row b; a row with 0 is idle and keeps its context untouched.

        Args:
            embeddings: [B, L, D], B the number of the cache's slots; what lies past ``lengths[b]`` is ignored.
            cache: from ``new_cache`` or the previous call.
            lengths: [B] int64.

        Returns:
            [B, L, D] hidden states after the final norm (meaningless past ``lengths[b]``), and the longer cache.

        Raises:
            ValueError: shapes that do not fit, or a slot that would overflow; the cache is untouched then.
        """
        new = embeddings.shape[1]
        writer = CacheWriter(cache, lengths, new)
        if writer.idle:
            return torch.zeros_like(embeddings), cache
        longer = cache._replace(length=cache.length + lengths)
        if self.ticks is not None:
            ticked = self.ticks(embeddings, cache, lengths, writer.read_length)
            if ticked is not None:
                return ticked, longer
        # Padding stands on its row's last valid position: some rotary embeddings scale by the highest position of all.
        steps = torch.arange(new, device=lengths.device).minimum(lengths[:, None] - 1)
        positions = (cache.length[:, None] + steps).clamp(min=0)  # [B, L]
        return self._decode(embeddings, positions, writer, writer.read_length), longer

    @torch.no_grad()
    def tick(self, embeddings: Tensor, starts: Tensor, writer: Cache, read_length: int) -> Tensor:
        """One position a row, at ``starts`` [B], without a look at values on the host: what ``llm_ticks`` records."""
        return self._decode(embeddings, starts[:, None], writer, read_length)

    def _decode(self, embeddings: Tensor, positions: Tensor, writer: Cache, read_length: int) -> Tensor:
        output = self._decoder["decoder"](
            inputs_embeds=embeddings.to(self.embedding.weight.dtype),
            attention_mask=self._mask(positions, read_length),
            position_ids=positions,
            past_key_values=writer,
            use_cache=True,
        )
        return output.last_hidden_state  # type: ignore[no-any-return]

    def train_forward(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """Whole sequences at once, without a cache; gradients flow to the embeddings and to nothing else.

        Args:
            embeddings: [B, L, D].
            mask: [B, L] bool, true where a position is valid; padding at either end.

        Returns:
            [B, L, D] hidden states after the final norm, meaningless where ``mask`` is false.
        """
        positions = (mask.long().cumsum(1) - 1).clamp(min=0)
        valid = mask.bool()[:, None, None, :]
        order = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
        output = self._decoder["decoder"](
            inputs_embeds=embeddings.to(self.embedding.weight.dtype),
            attention_mask=self._mask(order, mask.shape[1], valid),
            position_ids=positions,
            use_cache=False,
        )
        return output.last_hidden_state  # type: ignore[no-any-return]

    def _mask(self, positions: Tensor, read_length: int, valid: Tensor | None = None) -> Any:
        masks = {}
        for kind, limits in self._layer_masks.items():
            seen = causal_mask(positions, read_length, **limits)
            if valid is not None:  # a padded query keeps itself, lest its softmax have nothing to stand on
                own = positions[:, None, :, None] == torch.arange(read_length, device=positions.device)
                seen = seen & (valid | own)
            if self._additive:
                weight = self.embedding.weight
                seen = weight.new_zeros(seen.shape).masked_fill(~seen, torch.finfo(weight.dtype).min)
            masks[kind] = seen
        return masks if len(masks) > 1 else next(iter(masks.values()))

    @torch.no_grad()
    def _probe(self) -> list[tuple[int, int, int]]:
        """Run one token by id and by embedding: learn each layer's cache shape and prove that both ways agree."""
        ids = torch.zeros(1, 1, dtype=torch.long, device=self.embedding.weight.device)
        decoder = self._decoder["decoder"]
        try:
            by_id = decoder(input_ids=ids, use_cache=True)
            by_embedding = decoder(inputs_embeds=self.embed(ids), use_cache=False)
            layers = by_id.past_key_values.layers
            shapes = [(layer.keys.shape[1], layer.keys.shape[3], layer.values.shape[3]) for layer in layers]
        except (AttributeError, TypeError, ValueError, IndexError) as error:
            raise CheckpointError(
                f"{type(self.model).__name__} has no key-value cache that can be driven from outside ({error}); "
                "use a decoder-only transformer such as Qwen, Llama, Mistral, Gemma or Phi"
            ) from error
        if not torch.allclose(by_id.last_hidden_state, by_embedding.last_hidden_state, atol=1e-3, rtol=1e-3):
            raise CheckpointError(
                f"{type(self.model).__name__} needs token ids besides embeddings; speech has none: use another LLM"
            )
        return shapes

    @torch.no_grad()
    def _find_head(self) -> Any:
        """The bare output projection where that is all the model does after its final norm, else the model's own way.

        The latter is the model's own ``forward`` around a stand-in for its decoder that hands through what it is given.
        """
        name = self.model.base_model_prefix
        around = copy.copy(self.model)
        around._modules = {**self.model._modules, name: _HandThrough()}
        bare = self.model.get_output_embeddings()

        def whole(hidden_states: Tensor) -> Tensor:
            flat = hidden_states.reshape(1, -1, hidden_states.shape[-1])
            logits: Tensor = around(inputs_embeds=flat, use_cache=False).logits
            return logits.view(*hidden_states.shape[:-1], logits.shape[-1])

        weight = self.embedding.weight
        sample = torch.linspace(-9, 9, self.width, device=weight.device).to(weight.dtype)[None]
        return self._bare_head if torch.equal(bare(sample), whole(sample)) else whole

    def _bare_head(self, hidden_states: Tensor) -> Tensor:
        logits: Tensor = self.model.get_output_embeddings()(hidden_states)  # the layer that is there now
        return logits


class _HandThrough(nn.Module):
    """A decoder that returns what it was given."""

    def forward(self, inputs_embeds: Tensor, **_: Any) -> BaseModelOutputWithPast:
        return BaseModelOutputWithPast(last_hidden_state=inputs_embeds)


def _layer_masks(config: Any) -> dict[str, dict[str, int]]:
    """Limits of ``causal_mask`` for each kind of attention layer the model has."""
    window, chunk = getattr(config, "sliding_window", None), getattr(config, "attention_chunk_size", None)
    kinds = getattr(config, "layer_types", None) or ["sliding_attention" if window else "full_attention"]
    limits: dict[str, dict[str, int]] = {
        "full_attention": {},
        "sliding_attention": {"window": window} if window else {},
        "chunked_attention": {"chunk": chunk} if chunk else {},
    }
    if unknown := sorted(set(kinds) - limits.keys()):
        raise CheckpointError(
            f"layers of kind {unknown[0]!r} keep more than keys and values, which cannot be taken back; "
            "use a decoder-only transformer such as Qwen, Llama, Mistral, Gemma or Phi"
        )
    return {kind: limits[kind] for kind in dict.fromkeys(kinds)}

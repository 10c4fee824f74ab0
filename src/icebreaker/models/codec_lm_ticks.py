"""One code for many segments as a recorded step of the speech decoder. Knows nothing of sampling or of sound.

What ``CodecLM.step`` does, without a look at values on the host. Rows that do not take part write to the cache's last
entry, which belongs to nobody.
"""

import torch
from torch import Tensor

from icebreaker.models.codec_lm import CodecLM
from icebreaker.models.codec_lm_cache import CodecLMState
from icebreaker.nn.attention import attend
from icebreaker.nn.recorded import Recorder, bucket

__all__ = ["CodecLMTicks"]

LEAST_READ = 256  # entries


class CodecLMTicks:
    """Replays steps over the cache that it is given, until it is given one elsewhere in memory."""

    def __init__(self, model: CodecLM, recorder: Recorder | None = None) -> None:
        self.model = model
        self.recorder = Recorder() if recorder is None else recorder
        self._memory: tuple[int, int] | None = None

    def __call__(self, codes: Tensor, state: CodecLMState, used: int, active: Tensor | None = None) -> Tensor:
        """Feed one code [b] to each row of ``state``, whose cache may be a slice of a larger one.

        Args:
            codes: [b] the newest code of each row.
            state: its cache is written in place, at each row's ``length``.
            used: entries of the longest row, the new one included.
            active: [b] rows whose logits are wanted; all are computed.

        Returns:
            [b, codes + 4] logits.
        """
        keys, values = (_whole(cache) for cache in (state.keys, state.values))
        if (memory := (keys.data_ptr(), values.data_ptr())) != self._memory:
            self.recorder.clear()
            self._memory = memory
        first = state.keys.storage_offset() // state.keys.stride(0)
        stop, scratch = first + len(codes), state.capacity
        rows, read = bucket(stop, 1, len(keys)), bucket(used, LEAST_READ, state.capacity)
        fed, length = codes.new_zeros(rows), state.length.new_full((rows,), scratch)
        position = state.position.new_zeros(rows)
        fed[first:stop], length[first:stop], position[first:stop] = codes, state.length, state.position

        def step(fed: Tensor, length: Tensor, position: Tensor) -> Tensor:
            return self._step(fed, length, position, keys[:rows], values[:rows], read)

        return self.recorder((rows, read), step, fed, length, position)[first:stop]

    def _step(self, codes: Tensor, length: Tensor, position: Tensor, keys: Tensor, values: Tensor, read: int) -> Tensor:
        model = self.model
        rows = torch.arange(len(codes), device=codes.device)
        mask = torch.arange(read, device=codes.device) <= length[:, None, None, None]  # [B, 1, 1, read]
        x, rotation = model.embedding(codes)[:, None], model.rotation(position[:, None])
        for index, layer in enumerate(model.layers):
            query, key, value = layer.project(x, rotation)  # type: ignore[operator]
            for cache, entry in ((keys, key), (values, value)):
                cache[rows, index, :, length] = entry[:, :, 0]
            x = layer.finish(x, attend(query, keys[:, index, :, :read], values[:, index, :, :read], mask))  # type: ignore[operator]
        logits: Tensor = model.head(model.norm(x[:, 0]))
        return logits


def _whole(cache: Tensor) -> Tensor:
    """All rows of the memory that ``cache`` [b, N, H, capacity + 1, d] is a slice of."""
    rows = cache.untyped_storage().nbytes() // (cache.stride(0) * cache.element_size())
    return cache.as_strided((rows, *cache.shape[1:]), cache.stride(), 0)

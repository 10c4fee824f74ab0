"""Key tables of the official ``audiollm/final.pt``: official key to ours. Knows names, not tensors or files.

Every official tensor has the shape of ours, so that a table is all there is to a conversion, either way.
"""

from icebreaker.errors import CheckpointError
from icebreaker.models.adapter import AdapterConfig
from icebreaker.models.encoder import EncoderConfig

__all__ = ["adapter_key_table", "audiollm_key_table", "encoder_key_table"]

WEIGHT_BIAS = ("weight", "bias")
BATCH_NORM = (*WEIGHT_BIAS, "running_mean", "running_var", "num_batches_tracked")


def audiollm_key_table(
    encoder: EncoderConfig, adapter: AdapterConfig, *, prompts: bool = True, cmvn: bool = False
) -> dict[str, str | None]:
    """All keys of ``audiollm/final.pt`` to ``encoder.*``, ``adapter.*``, ``prompts.*``, ``turn_head.*``.

    Args:
        encoder: configuration of the encoder.
        adapter: configuration of the adapter.
        prompts: whether there are prompt embeddings (``prompt_finetune``).
        cmvn: whether the file holds the CMVN buffers; then they win over ``global_cmvn``.
    """
    table: dict[str, str | None] = {}
    table |= {f"encoder.{theirs}": f"encoder.{ours}" for theirs, ours in encoder_key_table(encoder, cmvn=cmvn).items()}
    table |= {f"adpter.{theirs}": f"adapter.{ours}" for theirs, ours in adapter_key_table(adapter).items()}
    table |= {f"predictor_head.{kind}": f"turn_head.linear.{kind}" for kind in WEIGHT_BIAS}
    table["task_embeddings.weight"] = "prompts.task_embeddings.weight"
    if prompts:
        table["prompt_embeddings.weight"] = "prompts.prompt_embeddings.weight"
    return table


def encoder_key_table(config: EncoderConfig, *, cmvn: bool = False) -> dict[str, str | None]:
    """Official encoder keys (without ``encoder.``) to those of ``models.encoder.Encoder``."""
    table: dict[str, str | None] = {}
    if cmvn:
        table |= {"global_cmvn.mean": "mean", "global_cmvn.istd": "istd"}
    modules = {
        "enc.0.core.conv.0": "subsampling.conv1",
        "enc.0.core.conv.2": "subsampling.conv2",
        "enc.0.core.out.0": "subsampling.linear",
    }
    if config.input_layer == "linear":
        modules |= {"enc.1.embed.0": "embed.linear", "enc.1.embed.1": "embed.norm"}
    if config.normalize_before:
        modules["enc.1.after_norm"] = "final_norm"
    for i in range(config.layers):
        modules |= {f"enc.1.encoders.{i}.{t}": f"layers.{i}.{o}" for t, o in _layer_modules(config).items()}
        if config.position_encoding == "rel-enc":
            theirs, ours = f"enc.1.encoders.{i}.self_attn", f"layers.{i}.attention"
            table[f"{theirs}.linear_pos.weight"] = f"{ours}.position.weight"
            table[f"{theirs}.pos_bias_u"] = f"{ours}.content_bias"
            table[f"{theirs}.pos_bias_v"] = f"{ours}.position_bias"
    return table | _expand(modules, WEIGHT_BIAS)


def adapter_key_table(config: AdapterConfig) -> dict[str, str | None]:
    """Official adapter keys (without ``adpter.``) to those of ``models.adapter.Adapter``.

    Raises:
        CheckpointError: an adapter that looks tokens up: the official code has none.
    """
    if config.vocabulary:
        raise CheckpointError(
            f"expected an adapter without lookup, got adapter.vocabulary = {config.vocabulary}; "
            "the official layout has no place for it"
        )
    if config.kind == "linear":
        return _expand({"adpter": "project"}, WEIGHT_BIAS)
    numbers = (2,) if len(config.widths) == 1 else (1, 2)
    norm_kinds = WEIGHT_BIAS if numbers == (2,) and config.norm == "layer" else BATCH_NORM
    table = _expand({"project": "project"}, WEIGHT_BIAS)
    for block, number in enumerate(numbers):
        table |= _expand({f"conv1d{number}": f"blocks.{block}.conv"}, WEIGHT_BIAS)
        table |= _expand({f"bn{number}": f"blocks.{block}.norm"}, norm_kinds)
    return table


def _layer_modules(config: EncoderConfig) -> dict[str, str]:
    modules = {
        "self_attn.linear_q": "attention.query",
        "self_attn.linear_k": "attention.key",
        "self_attn.linear_v": "attention.value",
        "self_attn.linear_out": "attention.out",
        "norm1": "attention_norm",
        "norm2": "feed_forward_norm",
        "feed_forward.w_2": "feed_forward.down",
    }
    if config.feed_forward == "conv1d-linear":
        modules |= {"feed_forward.w_1.0": "feed_forward.depthwise", "feed_forward.w_1.1": "feed_forward.up"}
    else:
        modules["feed_forward.w_1"] = "feed_forward.up"
    if config.concat_after:
        modules["concat_linear"] = "concat"
    return modules


def _expand(modules: dict[str, str], kinds: tuple[str, ...]) -> dict[str, str | None]:
    return {f"{theirs}.{kind}": f"{ours}.{kind}" for theirs, ours in modules.items() for kind in kinds}

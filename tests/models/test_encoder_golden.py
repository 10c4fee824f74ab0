"""The encoder against the official implementation's stored inputs and outputs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from icebreaker.checkpoints.audiollm_keys import adapter_key_table, encoder_key_table
from icebreaker.models.adapter import Adapter, AdapterConfig
from icebreaker.models.encoder import Encoder, EncoderConfig, EncoderState
from icebreaker.models.turn_head import TurnHead
from icebreaker.nn.positions import sinusoid

GOLDEN = Path(__file__).parents[1] / "golden" / "freeze-omni-tiny"
TOLERANCE = {"atol": 1e-4, "rtol": 0.0}


def read_config(encoder_conf: dict[str, Any]) -> EncoderConfig:
    transformer = encoder_conf["para_conf"]["transformer"]
    return EncoderConfig(
        mel_bins=encoder_conf["overview_conf"]["encoder-input-dim"],
        subsampling_dim=encoder_conf["para_conf"]["subsampling"]["subsampling-output-dim"],
        width=transformer["transformer-attention-dim"],
        heads=transformer["transformer-attention-heads"],
        feed_forward_dim=transformer["transformer-linear-units"],
        layers=transformer["transformer-num-blocks"],
        chunk_size=transformer["transformer-chunk_size"],
        left_chunks=transformer["transformer-left_chunks"],
        input_layer=transformer["transformer-input-layer"],
        position_encoding=transformer["transformer-pos-enc-class"],
        normalize_before=transformer["transformer-normalize-before"],
        concat_after=transformer["transformer-concat-after"],
        feed_forward=transformer["transformer-positionwise-layer-type"],
        feed_forward_kernel_size=transformer.get("transformer-positionwise-conv-kernel_size", 1),
        dynamic_chunks=transformer["transformer-dynamic-chunks"],
        positions="official",
    )


def build(config: EncoderConfig, official: dict[str, Tensor], cmvn: Path | None) -> Encoder:
    table = encoder_key_table(config)
    assert table.keys() == official.keys()
    with torch.device("meta"):
        encoder = Encoder(config)
    statistics = (
        json.loads(cmvn.read_text()) if cmvn else {"mean_stat": [0.0] * 80, "var_stat": [1.0] * 80, "frame_num": 1}
    )
    mean = np.array(statistics["mean_stat"]) / statistics["frame_num"]
    variance = np.array(statistics["var_stat"]) / statistics["frame_num"] - mean**2
    weights = {ours: official[theirs].float() for theirs, ours in table.items() if ours is not None}
    weights["mean"] = torch.from_numpy(mean).float()
    weights["istd"] = torch.from_numpy(1 / np.sqrt(np.maximum(variance, 1e-20))).float()
    encoder.load_state_dict(weights, assign=True)
    return encoder.eval().requires_grad_(False)


def load(folder: Path) -> Encoder:
    audiollm = folder / "checkpoints" / "audiollm"
    config = read_config(yaml.safe_load((audiollm / "train.yaml").read_text())["encoder_conf"])
    official = torch.load(audiollm / "final.pt", weights_only=True)
    own = {key.removeprefix("encoder."): value for key, value in official.items() if key.startswith("encoder.")}
    return build(config, own, audiollm / "global_cmvn")


def load_adapter_and_head(folder: Path) -> tuple[Adapter, TurnHead]:
    official = torch.load(folder / "checkpoints" / "audiollm" / "final.pt", weights_only=True)
    adapter, head = Adapter(AdapterConfig()).eval(), TurnHead(3584)
    table = adapter_key_table(adapter.config)
    adapter.load_state_dict({ours: official[f"adpter.{theirs}"].float() for theirs, ours in table.items() if ours})
    head.load_state_dict({f"linear.{kind}": official[f"predictor_head.{kind}"].float() for kind in ("weight", "bias")})
    return adapter.requires_grad_(False), head.requires_grad_(False)


def read(path: Path) -> dict[str, Tensor]:
    with np.load(path) as arrays:
        return {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load(GOLDEN)


@pytest.fixture(scope="module")
def expected() -> dict[str, Tensor]:
    return read(GOLDEN / "expected" / "encoder.npz")


@pytest.fixture(scope="module")
def chunks() -> Tensor:
    return read(GOLDEN / "expected" / "fbank.npz")["chunks"]


def stream(encoder: Encoder, chunks: Tensor, state: EncoderState) -> tuple[Tensor, list[EncoderState]]:
    outputs, states = [], []
    for chunk in chunks:  # [19, 80], the first three frames are those of the state
        frames, state = encoder(chunk[None, 3:], state)
        outputs.append(frames)
        states.append(state)
    return torch.cat(outputs), states


def test_offline_forward_and_its_intermediates(encoder: Encoder, expected: dict[str, Tensor]) -> None:
    features = expected["feats_full"]
    seen: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _module, _args, out, name=name: seen.update({name: out}))
        for name, module in [("subsampled", encoder.subsampling), ("embed", encoder.embed), *enumerate(encoder.layers)]
    ]
    out, lengths = encoder.encode_features(features, torch.tensor([features.shape[1]]))
    for hook in hooks:
        hook.remove()
    close = torch.testing.assert_close
    close((features[:, :19] - encoder.mean) * encoder.istd, expected["cmvn_first19"], **TOLERANCE)
    close(seen["subsampled"], expected["full_subsampled"], **TOLERANCE)
    close(seen["embed"], expected["full_embed"], **TOLERANCE)
    close(seen[0][0], expected["full_layer0"], **TOLERANCE)
    close(seen[1][0], expected["full_layer1"], **TOLERANCE)
    close(sinusoid(torch.arange(84), 32)[None], expected["full_pos_emb"], **TOLERANCE)
    close(sinusoid(torch.arange(8, 24), 32)[None], expected["pos_emb_pe24_len16"], **TOLERANCE)  # 16 rows up to 24
    close(out, expected["full_out"], **TOLERANCE)
    assert lengths.tolist() == [int(expected["full_mask"].sum())]


def test_padded_batch(encoder: Encoder, expected: dict[str, Tensor]) -> None:
    out, lengths = encoder.encode_features(expected["batch_feats"], expected["batch_lens"])
    mask = expected["batch_mask"].squeeze(1)
    assert lengths.tolist() == mask.sum(1).tolist()
    torch.testing.assert_close(out[mask], expected["batch_out"][mask], **TOLERANCE)


@pytest.mark.parametrize(
    ("name", "chunk_size", "left_chunks"),
    [("full_attention", -1, -1), ("chunk8_left2", 8, 2), ("chunk4_left_all", 4, -1)],
)
def test_chunk_variants(
    encoder: Encoder, expected: dict[str, Tensor], name: str, chunk_size: int, left_chunks: int
) -> None:
    features = expected["feats_full"]
    out, _ = encoder.encode_features(
        features, torch.tensor([features.shape[1]]), chunk_size=chunk_size, left_chunks=left_chunks
    )
    variants = read(GOLDEN / "expected" / "encoder_chunk_variants.npz")
    torch.testing.assert_close(out, variants[name], **TOLERANCE)


def test_official_stream_its_caches_and_positions(
    encoder: Encoder, expected: dict[str, Tensor], chunks: Tensor
) -> None:
    out, states = stream(encoder, chunks, encoder.initial_state(1))
    torch.testing.assert_close(out, expected["stream_out"], **TOLERANCE)
    assert [int(state.position) for state in states] == expected["stream_pe_index"].tolist()
    assert [int(state.cached) for state in states] == expected["stream_cache_len"].tolist()
    for n, state in enumerate(states):
        cached = int(state.cached)
        for i, layer in enumerate(state.layers):
            torch.testing.assert_close(
                layer.keys[0, :, 12 - cached :], expected["stream_k"][n, i, :, :cached], **TOLERANCE
            )
            values = expected["stream_v"][n, i, :, :cached]
            torch.testing.assert_close(layer.values[0, :, 12 - cached :], values, **TOLERANCE)


def test_official_stream_in_one_call(encoder: Encoder, expected: dict[str, Tensor], chunks: Tensor) -> None:
    out, state = encoder(chunks[:, 3:].flatten(0, 1)[None], encoder.initial_state(1))
    torch.testing.assert_close(out[0], expected["stream_out"].flatten(0, 1), **TOLERANCE)
    assert int(state.position) == 84


def test_official_positions_wrap(encoder: Encoder, expected: dict[str, Tensor], chunks: Tensor) -> None:
    start = encoder.initial_state(1)._replace(position=expected["wrap_start"].reshape(1))
    out, states = stream(encoder, chunks[:6], start)
    torch.testing.assert_close(out, expected["wrap_out"], **TOLERANCE)
    assert [int(state.position) for state in states] == expected["wrap_pe_index"].tolist()


@pytest.mark.parametrize("name", ["absenc_full", "conv1d", "conv1dlinear", "postnorm_concat"])
def test_variants(name: str) -> None:
    folder = GOLDEN / "variants" / "encoders"
    config = read_config(yaml.safe_load((folder / f"{name}.yaml").read_text()))
    encoder = build(config, torch.load(folder / f"{name}.pt", weights_only=True), None)
    vectors = read(folder / f"{name}.npz")
    out, lengths = encoder.encode_features(vectors["x"], vectors["lens"])
    mask = vectors["out_mask"].squeeze(1)
    assert lengths.tolist() == mask.sum(1).tolist()
    torch.testing.assert_close(out[mask], vectors["out"][mask], **TOLERANCE)
    if "stream_out" in vectors:
        chunks = torch.stack([vectors["x"][0, 16 * i : 16 * i + 19] for i in range(4)])
        start = encoder.initial_state(1)._replace(features=chunks[:1, :3])
        streamed, _ = stream(encoder, chunks, start)
        torch.testing.assert_close(streamed, vectors["stream_out"], **TOLERANCE)


def test_published_sizes(chunks: Tensor, expected: dict[str, Tensor]) -> None:
    encoder = load(GOLDEN / "official-shape")
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 357_950_464
    vectors = read(GOLDEN / "official-shape" / "expected" / "audio.npz")
    out, states = stream(encoder, chunks, encoder.initial_state(1))
    torch.testing.assert_close(out[vectors["chunk_index"]], vectors["encoder_out"], atol=1e-3, rtol=0.0)
    adapter, head = load_adapter_and_head(GOLDEN / "official-shape")
    adapted, _ = adapter(out.flatten(0, 1)[None], adapter.initial_state(1))
    adapted = adapted.unflatten(1, (len(chunks), -1))[0]
    torch.testing.assert_close(adapted[vectors["chunk_index"]], vectors["adapter_out"], atol=1e-3, rtol=0.0)
    torch.testing.assert_close(head.logits(adapted[:, -1]), vectors["head_on_adapter_last"], atol=1e-3, rtol=0.0)
    assert int(states[-1].position) == int(vectors["pe_index_end"])
    last_keys = states[-1].layers[23].keys[0, :, -4:]
    torch.testing.assert_close(last_keys, vectors["cache_key_layer23_last"], atol=1e-3, rtol=0.0)
    full, _ = encoder.encode_features(expected["feats_full"], torch.tensor([expected["feats_full"].shape[1]]))
    torch.testing.assert_close(full[0, [0, 33, 71, 83]], vectors["full_encoder_rows"], atol=1e-3, rtol=0.0)

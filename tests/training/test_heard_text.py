import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from speech import TEXTS
from test_encoder_ctc import questions_and_encoder
from tiny_folder import write_llm

from icebreaker.config import load_toml
from icebreaker.errors import DataError
from icebreaker.models.adapter import AdapterConfig
from icebreaker.models.llm import LLM
from icebreaker.training import alignment, heard_text
from icebreaker.training.conversations import Conversation, MixConfig, batches_from
from icebreaker.training.ears import load_ears
from icebreaker.training.heard_rows import PAUSE, read_heard
from icebreaker.training.loop import OptimConfig
from icebreaker.training.speech_batches import SpeechConfig, SpeechSource

MINI = Path(__file__).parents[2] / "configs" / "mini"


def aligned(folder: Path, **adapter: int) -> alignment.AlignmentConfig:
    """Ears from the encoder and the LLM in ``folder``."""
    data = SpeechConfig(
        questions=str(folder / "questions" / "manifest.jsonl"),
        question_features=str(folder / "questions" / "features"), frames_per_batch=900,
    )  # fmt: skip
    return alignment.AlignmentConfig(
        output=str(folder / "alignment"), llm=str(folder / "llm"), encoder=str(folder / "encoder"), data=data,
        adapter=AdapterConfig(encoder_dim=16, llm_dim=32, **{"vocabulary": 259, **adapter}), prompts=3,
        optim=OptimConfig(steps=1, lr=1e-3), evaluate_every=0, max_new_tokens=2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> heard_text.HeardTextConfig:
    folder = tmp_path_factory.mktemp("heard_text")
    data = questions_and_encoder(folder)
    write_llm(folder / "llm")
    alignment.run(aligned(folder))
    return heard_text.HeardTextConfig(
        output=folder / "out", alignment=folder / "alignment", data=data, recordings=20, device="cpu"
    )


def test_what_the_ears_hear_is_written_down_at_its_pace(config: heard_text.HeardTextConfig) -> None:
    reports = list[int]()
    heard_text.run(config, lambda report: reports.append(report.step))
    rows = read_heard(config.output / "heard.jsonl")
    assert set(rows) <= set(TEXTS)
    assert 20 <= sum(map(len, rows.values())) < 20 + 2 * len(TEXTS)
    assert reports[-1] == 20
    ears = load_ears(config.alignment).eval()
    lookup, encoder = ears.adapter.lookup, ears.encoder.config
    assert lookup is not None
    batch = SpeechSource(config.data, with_answer=True).batch(0)
    heard = ears(batch.fbank, batch.lengths, (encoder.chunk_size, encoder.left_chunks))
    for item, vectors in zip(batch.items, heard.vectors, strict=True):
        tokens = rows[item.text][0]
        assert len(tokens) == len(vectors)
        kept = [token for i, token in enumerate(tokens) if token != PAUSE and (i == 0 or tokens[i - 1] != token)]
        assert kept == lookup.read(vectors)
        rows[item.text].pop(0)


def test_the_language_model_reads_it_so(config: heard_text.HeardTextConfig, tmp_path: Path) -> None:
    path = tmp_path / "heard.jsonl"
    path.write_text(json.dumps({"text": "who is it", "tokens": [PAUSE, 65, PAUSE, PAUSE, 66, 66]}) + "\n")
    tokenizer = LLM.load(config.alignment.parent / "llm").tokenizer
    asked = [
        Conversation("other", None, (("user", question), ("assistant", "Me."))) for question in ("Who is it?", "Eh?")
    ]
    mix = MixConfig(
        batch_conversations=2, paced_probability=1.0, leading_space=True, join_probability=0.0, heard=path,
        heard_probability=1.0,
    )  # fmt: skip
    pad = tokenizer.pad_token_id
    rows = [
        ids[mask > 0].tolist()
        for batch in islice(batches_from(asked, tokenizer, mix, 0)(0), 16)  # a pool: each is asked as often
        for ids, mask in zip(batch.ids, batch.mask, strict=True)
    ]
    found = [row for row in rows if any(row[i : i + 6] == [pad, 65, pad, pad, 66, 66] for i in range(len(row)))]
    assert len(found) == len(rows) // 2


def test_ears_without_tokens_and_broken_files_are_refused(config: heard_text.HeardTextConfig, tmp_path: Path) -> None:
    (tmp_path / "heard.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(DataError, match=r"heard\.jsonl: cannot read what was heard: .*run stage heard_text first"):
        read_heard(tmp_path / "heard.jsonl")
    plain = replace(config, output=tmp_path / "out", alignment=tmp_path / "alignment")
    alignment.run(replace(aligned(config.alignment.parent, vocabulary=0), output=str(plain.alignment)))
    with pytest.raises(DataError, match="its adapter has no vocabulary"):
        heard_text.run(plain)


def test_the_shipped_configuration_fits() -> None:
    config = load_toml(MINI / "heard_text.toml", heard_text.HeardTextConfig)
    assert config.output == Path("runs/mini/heard_text")

"""Stage folders as training leaves them, and an LLM folder with a chat template, for the tests of assembling."""

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def save(folder: Path, modules: dict[str, nn.Module], config: dict[str, Any]) -> None:
    """Weights, configuration, and the metrics of 40 steps in an hour."""
    folder.mkdir(parents=True)
    weights = {
        f"{name}.{key}": v.contiguous() for name, module in modules.items() for key, v in module.state_dict().items()
    }
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    rows = [{"step": 20, "loss": 1.0, "seconds": 1800.0}, {"step": 40, "loss": 0.5, "seconds": 3600.0}]
    rows.append({"step": 40, "evaluation": {"wer": 0.125}})  # type: ignore[dict-item]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def with_template(llm_folder: Path, copy: Path) -> Path:
    """A copy of ``llm_folder`` whose tokenizer has a chat template."""
    llm = Path(shutil.copytree(llm_folder, copy))
    settings = json.loads((llm / "tokenizer_config.json").read_text())
    (llm / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": CHATML}))
    return llm

"""Weights to safetensors files that others may read. Knows nothing of what they are of.

safetensors (0.8) writes a private temporary file and renames it, so that what it leaves is its owner's alone (mode
600). Here a new file gets the permissions of any other new file (644 with the usual umask).
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

__all__ = ["share_weights", "write_weights"]


def write_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write contiguous tensors that share no memory; an existing file keeps its permissions.

    Raises:
        OSError, SafetensorError: the file cannot be written.
    """
    path.touch()  # the umask can be read from a new file only
    mode = path.stat().st_mode
    save_file(dict(weights), path)
    path.chmod(mode)


def share_weights(folder: Path) -> None:
    """Give all weights in a folder of ``save_pretrained`` the permissions of the ``config.json`` beside them."""
    for path in folder.glob("*.safetensors"):
        shutil.copymode(folder / "config.json", path)

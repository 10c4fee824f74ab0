"""Packages that only some uses need (``icebreaker-speech[eval]`` and so on), imported when they are asked for."""

import importlib
from typing import Any

from icebreaker.errors import ConfigError

__all__ = ["load_extra"]


def load_extra(module: str, extra: str = "eval") -> Any:
    """The optional ``module``.

    Raises:
        ConfigError: it is not installed; the message says what to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ConfigError(
            f"this needs the package {package}, which is not installed ({error}); "
            f"pip install 'icebreaker-speech[{extra}]', or pip install {package}"
        ) from error

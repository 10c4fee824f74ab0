"""What can go wrong outside our code. Knows nothing of who catches it.

    IcebreakerError
    ├── AudioError        a recording that cannot be read or used
    ├── CheckpointError   weights or configurations that are missing, damaged or of another model
    ├── ConfigError       a configuration file, override or option that does not fit
    ├── DataError         training data that is missing or malformed
    ├── ServerError       a Realtime server that cannot be reached, refuses, or went away
    └── TrainingError     a run that cannot go on (disk full, loss not finite, ...)

Every message says what was expected, what came and what to do. A bad argument is a plain ``ValueError``.
"""

__all__ = [
    "AudioError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "IcebreakerError",
    "ServerError",
    "TrainingError",
]


class IcebreakerError(Exception):
    """Base of all errors that a user can cause and mend."""


class AudioError(IcebreakerError):
    """A recording cannot be read or used."""


class CheckpointError(IcebreakerError):
    """Weights are missing, damaged, or belong to another model."""


class ConfigError(IcebreakerError):
    """A configuration does not fit its dataclass."""


class DataError(IcebreakerError):
    """Training data is missing or malformed."""


class ServerError(IcebreakerError):
    """A Realtime server cannot be reached, refuses, or went away in the middle."""


class TrainingError(IcebreakerError):
    """A training run cannot go on."""

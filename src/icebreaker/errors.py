"""What can go wrong outside our code. Knows nothing of who catches it.

    IcebreakerError
    ├── AdmissionError    an engine that has no room for another conversation
    ├── AudioError        a recording that cannot be read or used
    ├── CheckpointError   weights or configurations that are missing, damaged or of another model
    ├── ConfigError       a configuration file, override or option that does not fit
    ├── DataError         training data that is missing or malformed
    ├── ProtocolError     a client's message that is not in the Realtime protocol
    ├── ServerError       a Realtime server that cannot be reached, refuses, or went away
    ├── SessionNotFound   a conversation to be resumed that is not, or no longer, there
    └── TrainingError     a run that cannot go on (disk full, loss not finite, ...)

Every message says what was expected, what came and what to do. A bad argument is a plain ``ValueError``.
"""

__all__ = [
    "AdmissionError",
    "AudioError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "IcebreakerError",
    "ProtocolError",
    "ServerError",
    "SessionNotFound",
    "TrainingError",
]


class IcebreakerError(Exception):
    """Base of all errors that a user can cause and mend."""


class AdmissionError(IcebreakerError):
    """An engine has no room for another conversation.

    Attributes:
        retry_after_s: when it may be worth another try.
    """

    def __init__(self, message: str, retry_after_s: float = 5.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class AudioError(IcebreakerError):
    """A recording cannot be read or used."""


class CheckpointError(IcebreakerError):
    """Weights are missing, damaged, or belong to another model."""


class ConfigError(IcebreakerError):
    """A configuration does not fit its dataclass."""


class DataError(IcebreakerError):
    """Training data is missing or malformed."""


class ProtocolError(IcebreakerError):
    """A client's message that is not in the Realtime protocol, or asks for what cannot be.

    Attributes:
        code: short and stable, as in the protocol's ``error`` event.
        param: path of the field that is wrong, where one is.
    """

    def __init__(self, message: str, code: str = "invalid_value", param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.param = code, param


class ServerError(IcebreakerError):
    """A Realtime server cannot be reached, refuses, or went away in the middle."""


class SessionNotFound(IcebreakerError):
    """A conversation that was to be resumed is not, or no longer, there."""


class TrainingError(IcebreakerError):
    """A training run cannot go on."""

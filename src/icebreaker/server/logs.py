"""Logs as one JSON object a line, for machines. Configures nothing by itself."""

import json
import logging

__all__ = ["JsonFormatter", "short_id"]

STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
SHOWN = 12  # characters of a session's id: enough to tell sessions apart, too few to resume one


def short_id(session_id: str) -> str:
    """What of a session's id may stand in a log; the whole of it lets its client back in."""
    return session_id[:SHOWN]


class JsonFormatter(logging.Formatter):
    """Time, level, logger, message, and whatever was passed as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name, value in vars(record).items() if name not in STANDARD},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)

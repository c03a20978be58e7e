"""Formatters of log records: escaped text, JSON, and text with tracebacks for terminals."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from .logs import one_line

__all__ = ["JsonFormatter", "LineFormatter", "TerminalFormatter"]

FORMAT = "%(asctime)s %(name)s %(levelname)s %(message)s"

# The attributes of every record; all others were given as `extra`.
ORDINARY = frozenset(vars(logging.makeLogRecord({}))) | {"asctime", "message", "taskName"}


class LineFormatter(logging.Formatter):
    """One line for each record, with its traceback; characters that break a line are escaped.

    Args:
        format: As for `logging.Formatter`.
    """

    def __init__(self, format: str = FORMAT) -> None:
        super().__init__(format)

    def format(self, record: logging.LogRecord) -> str:
        return one_line(super().format(record))


class TerminalFormatter(LineFormatter):
    """One line for each record, then the traceback as Python prints it; every line is escaped."""

    def format(self, record: logging.LogRecord) -> str:
        lines = [one_line(self._line(record))]
        if record.exc_info and record.exc_info[1] is not None:
            text = self.formatException(record.exc_info)
            lines += [one_line(line) for line in text.split("\n")]
        if record.stack_info:
            lines += [one_line(line) for line in record.stack_info.split("\n")]
        return "\n".join(lines)

    def _line(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        if self.usesTime():
            record.asctime = self.formatTime(record, self.datefmt)
        return self.formatMessage(record)


class JsonFormatter(logging.Formatter):
    """One JSON object for each record: time, level, logger, message, all fields, the exception."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for key, value in vars(record).items():
            if key not in ORDINARY and key not in told and value is not None:
                told[key] = value
        if record.exc_info and record.exc_info[1] is not None:
            told["exception"] = type(record.exc_info[1]).__name__
            told["traceback"] = self.formatException(record.exc_info)
        if record.stack_info:
            told["stack"] = record.stack_info
        # The line is ASCII only, so that no value breaks it or controls a terminal.
        return json.dumps(told, default=str)

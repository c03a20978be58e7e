"""The commands' log lines: their destination and format."""

from __future__ import annotations

import logging
import sys
from typing import Literal

from ..telemetry.log_formats import JsonFormatter, LineFormatter, TerminalFormatter

__all__ = ["LogFormat", "LogLevel", "log_to_stderr"]

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]


def log_to_stderr(
    *, format: LogFormat | None, level: LogLevel | None, access: bool, debug: bool
) -> None:
    """Write log records to stderr, one on each line.

    An application that has set up its own logging keeps it, unless a format is asked for.

    Args:
        format: Text or JSON; None: text.
        level: The least level that is logged; None: warnings.
        access: Whether to log a line for each call.
        debug: Whether tracebacks are printed as Python does, if stderr is a terminal.
    """
    handler = logging.StreamHandler(sys.stderr)
    if format == "json":
        handler.setFormatter(JsonFormatter())
    elif debug and sys.stderr.isatty():
        handler.setFormatter(TerminalFormatter())
    else:
        handler.setFormatter(LineFormatter())
    chosen = (level or "warning").upper()
    logging.basicConfig(handlers=[handler], level=chosen, force=format is not None)
    if level is not None:
        logging.getLogger("wsrpc").setLevel(chosen)
    if access:
        logging.getLogger("wsrpc.access").setLevel(logging.INFO)

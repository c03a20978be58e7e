"""Passing on an interruption from the keyboard that a task received."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

__all__ = ["interrupt_by"]


def interrupt_by(call_soon: Callable[[Callable[[], None]], None]) -> bool:
    """Let the main task, or the code that waits for the signal, get the interruption.

    Args:
        call_soon: Runs a function in a turn of the loop of its own.

    Returns:
        Whether that is possible: in the main thread, with a handler for the signal.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    if not callable(signal.getsignal(signal.SIGINT)):
        return False
    call_soon(lambda: signal.raise_signal(signal.SIGINT))
    return True

"""An interruption from the keyboard that reaches code of the user's, on its way to the process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

__all__ = ["interrupt_by"]


def interrupt_by(call_soon: Callable[[Callable[[], None]], None]) -> bool:
    """Let the main task, or whoever waits for the signal, get it as if it came from the keyboard.

    Args:
        call_soon: Runs a function in a turn of the loop of its own.

    Returns:
        Whether that can be: in the main thread, where somebody handles the signal.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    if not callable(signal.getsignal(signal.SIGINT)):
        return False
    call_soon(lambda: signal.raise_signal(signal.SIGINT))
    return True

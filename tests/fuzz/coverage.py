"""`python -m tests.fuzz.coverage [corpus] [-runs=N …]`: for longer runs, led by what code is reached.

Needs atheris (https://github.com/google/atheris), which is no dependency of this project, and takes
libFuzzer's options. An input is: which codec, at which step of the recorded conversation, and the
message that comes in the place of the recorded one.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from tests.protocol.harness import deliver
from wsrpc.errors import ProtocolError
from wsrpc.protocol.codec import CODECS

from .conversation import CODES, conversation

__all__ = ["main", "one_input"]


def one_input(data: bytes) -> None:
    """Let an endpoint take a message in the middle of a conversation.

    Raises:
        AssertionError: It closes with a code that is none of the protocol's. Any other exception is
            a fault as well.
    """
    if len(data) < 2:
        return
    codec = CODECS[sorted(CODECS)[data[0] % len(CODECS)]]
    for n, (receiver, _, pair) in enumerate(conversation(codec)):
        if n == data[1] % 16:
            code = None
            try:
                deliver(receiver, data[2:])
            except ProtocolError as refusal:
                code = refusal.close_code
            assert code is None or code in CODES, code
            pair.client.close()
            pair.server.close()
            return


def main() -> None:
    try:
        atheris: Any = import_module("atheris")
    except ImportError:
        sys.exit("atheris is not installed; `python -m tests.fuzz` does without")
    atheris.instrument_all()
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

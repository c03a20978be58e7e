"""`wsrpc health`: whether a server takes calls, as an exit code."""

from __future__ import annotations

import anyio
from rich.text import Text

from ..errors import Code, ConnectError, RpcError
from .connection import Target
from .failures import ExitCode, note
from .output import Output
from .text import printable

__all__ = ["health"]


async def health(target: Target, service: str, output: Output) -> int:
    """Ask a server for its health; the answer goes to stdout.

    Args:
        target: The server; its timeout covers the connection and the call.
        service: A controller's name; "" for the server as a whole.
        output: Takes the answer.

    Returns:
        0 if it serves; 1 if it does not, cannot be reached or has no health controller.
    """
    status = ""
    try:
        with anyio.fail_after(target.timeout):
            async with target.session() as session:
                asked = session.clientize("wsrpc.health", **target.options)
                status = (await asked.check(service=service))["status"]
    except ConnectError as error:
        note(f"unreachable: {error}")
    except RpcError as error:
        if error.code == Code.UNIMPLEMENTED:
            note(f"{target.url} does not tell its health: it has no wsrpc.health")
        else:
            note(f"{error.code}: {error.message}")
    except TimeoutError:
        note(f"no answer within {target.timeout:g} s")
    except (KeyError, TypeError):
        note(f"{target.url} gave an answer that is none of wsrpc.health")
    if isinstance(status, str) and status:
        await output.text(Text(printable(status)))
    return ExitCode.OK if status == "SERVING" else ExitCode.REMOTE

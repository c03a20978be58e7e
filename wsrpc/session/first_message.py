"""The first message of a link, which has a time limit of its own."""

from __future__ import annotations

import anyio

from ..close_codes import CloseCode
from ..errors import ProtocolError
from ..transport.base import Link

__all__ = ["first_message"]


async def first_message(link: Link, timeout: float) -> bytes:
    """Receive the peer's first message, within the time that the peer has for it (HELLO-9).

    Raises:
        ProtocolError: 4008, it did not come in time; the peer's fault.
        LinkClosed: The link is gone.
    """
    try:
        with anyio.fail_after(timeout):
            return await link.receive()
    except TimeoutError:
        raise ProtocolError(CloseCode.HELLO_TIMEOUT, "no hello in time") from None

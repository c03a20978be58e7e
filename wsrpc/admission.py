"""Who may come in: the first message of a link, and what `authenticate` says to it."""

from __future__ import annotations

import logging
from typing import Any

from .errors import ProtocolError, RpcError
from .limits import FLOOR_MAX_BATCH, Limits
from .protocol.codec import SUBPROTOCOLS
from .protocol.hello import TOO_BIG, UNAUTHENTICATED, Opening, read_opening
from .session import FORBIDDEN, Authenticate
from .transport.base import Link
from .wire import first_message

__all__ = ["admit"]

logger = logging.getLogger("wsrpc")


async def admit(
    link: Link, limits: Limits, authenticate: Authenticate | None
) -> tuple[Opening, Any]:
    """Read the hello and find out who it is (HELLO-6, HELLO-7, HELLO-9).

    Returns:
        The link's first message, and the principal.

    Raises:
        ProtocolError: The link has to be closed with its code; nothing has begun.
        LinkClosed: The link is gone.
    """
    data = await first_message(link, limits.hello_timeout)
    if len(data) > FLOOR_MAX_BATCH:
        raise ProtocolError(TOO_BIG, "more than 64 KiB before authentication")
    assert link.subprotocol is not None
    opening = read_opening(SUBPROTOCOLS[link.subprotocol], data)
    if authenticate is None:
        return opening, None
    try:
        return opening, await authenticate(link.handshake, opening.hello.auth)
    except RpcError as error:
        if error.code == "permission_denied":
            raise ProtocolError(FORBIDDEN, "forbidden") from None
    except Exception:
        logger.exception("authenticate raised; the peer is refused")
    raise ProtocolError(UNAUTHENTICATED, "unauthenticated")

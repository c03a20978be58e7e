"""The client of nats-py, with short ways between the socket and senders and takers of messages."""

from __future__ import annotations

import nats.aio.client
import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from .base import Handler
from .connection import Connection, not_handled

__all__ = ["Client"]


class Client(nats.aio.client.Client):
    """The library's client.

    Args:
        direct: Whether it is connected by TCP or TLS, and not by a WebSocket, which stays with the
            library.
    """

    def __init__(self, *, direct: bool) -> None:
        super().__init__()
        self.connection: Connection | None = None
        if direct:
            self._transport = self.connection = Connection()

    async def listen(self, subject: str, handler: Handler, messages: int, size: int) -> Listening:
        """Subscribe.

        Args:
            subject: The subject.
            handler: Takes the messages; must not block or raise.
            messages: Messages that may wait for the handler.
            size: Bytes of messages that may wait for it.
        """
        listening = Listening(self.connection, handler)
        listening.subscription = await self.subscribe(
            subject, cb=listening.take, pending_msgs_limit=messages, pending_bytes_limit=size
        )
        return listening

    def send(self, subject: str, data: bytes, most: int) -> bool:
        """Send a message at once; returns False, and sends nothing, where it would have to wait.

        Args:
            subject: The subject.
            data: The message.
            most: Bytes that may wait for the socket.

        Raises:
            nats.errors.Error: The server does not take it.
        """
        connection, size = self.connection, len(data)
        if connection is None or self.pending_data_size:
            # Messages that the library holds go first.
            return False
        if (unsent := connection.unsent) and unsent + size > most:
            return False
        if size > self.max_payload:
            raise nats.errors.MaxPayloadError
        connection.write(b"PUB %b %d\r\n%b\r\n" % (subject.encode(), size, data))
        return True


class Listening:
    """A subscription whose messages go to a handler.

    The first ones come through the library's queue: from these the subscription's id is known. As
    soon as the library has no other message, they take the short way; so none overtakes another.
    """

    def __init__(self, connection: Connection | None, handler: Handler) -> None:
        self._connection = connection
        self._handler = handler
        self._id: bytes | None = None
        self._over = False
        self.subscription: Subscription | None = None

    async def take(self, message: Msg) -> None:
        """Take a message from the queue."""
        try:
            self._handler(message.subject, message.data, message.reply)
        except Exception as error:  # noqa: BLE001  (it would end the subscription's task)
            not_handled(message.subject, error)
        subscription, connection = self.subscription, self._connection
        if subscription is None or connection is None or self._over:
            return
        if connection.quiet and not subscription.pending_msgs:
            self._id = b"%d" % message.sid
            connection.handlers[self._id] = self._handler

    async def off(self) -> None:
        """End the subscription."""
        self._over = True
        if self._id is not None and self._connection is not None:
            self._connection.handlers.pop(self._id, None)
        if self.subscription is not None:
            await self.subscription.unsubscribe()

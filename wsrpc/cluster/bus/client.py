"""The client of nats-py, with a short way from the socket to the handlers of messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nats.aio.client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from ...telemetry.logs import everyone
from .base import Handler

__all__ = ["Client"]


@dataclass
class Arrival(Msg):
    """A message that goes to its handler where it is read.

    The library would put it into a queue, and wake a task that takes it from there. It drops a
    message that is false; so this one is false once it has been handled.
    """

    handled: bool = False

    def __post_init__(self) -> None:
        client = self._client
        if isinstance(client, Client):
            handler = client.handlers.get(self.sid)
            if handler is not None:
                self.handled = True
                _handle(handler, self)

    def __bool__(self) -> bool:
        return not self.handled


class Client(nats.aio.client.Client):
    """The library's client.

    Attributes:
        handlers: The handlers that get messages where they are read, by the id of the subscription.
    """

    msg_class = Arrival

    def __init__(self) -> None:
        super().__init__()
        self.handlers: dict[int, Handler] = {}

    async def listen(self, subject: str, handler: Handler, messages: int, size: int) -> Listening:
        """Subscribe.

        Args:
            subject: The subject.
            handler: Takes the messages; must not block or raise.
            messages: Messages that may wait for the handler.
            size: Bytes of messages that may wait for it.
        """
        listening = Listening(self, handler)
        listening.subscription = await self.subscribe(
            subject, cb=listening.take, pending_msgs_limit=messages, pending_bytes_limit=size
        )
        return listening


class Listening:
    """A subscription whose messages go to a handler.

    The first ones come through the library's queue: from these the subscription's id is known. As
    soon as the queue is empty, messages take the short way; so none overtakes another.
    """

    def __init__(self, client: Client, handler: Handler) -> None:
        self._client = client
        self._handler = handler
        self._id: int | None = None
        self._over = False
        self.subscription: Subscription | None = None

    async def take(self, message: Any) -> None:
        """Take a message from the queue."""
        if not message:
            return
        _handle(self._handler, message)
        subscription = self.subscription
        if subscription is not None and not subscription.pending_msgs and not self._over:
            self._id = message.sid
            self._client.handlers[message.sid] = self._handler

    async def off(self) -> None:
        """End the subscription."""
        self._over = True
        if self._id is not None:
            self._client.handlers.pop(self._id, None)
        if self.subscription is not None:
            await self.subscription.unsubscribe()


def _handle(handler: Handler, message: Msg) -> None:
    try:
        handler(message.subject, message.data, message.reply)
    except Exception as error:  # noqa: BLE001  (it would end the task that reads the socket)
        everyone.error("a message on %s could not be handled", message.subject[:256], error=error)

"""The server's side of the board."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
from pydantic import BaseModel, Field

import wsrpc

# Cursors on one board.
MOST = 200


class Place(BaseModel):
    """The place of a cursor, in thousandths of the board's width and height."""

    x: int = Field(ge=0, le=1000)
    y: int = Field(ge=0, le=1000)


class Cursor(BaseModel):
    """The cursor of one window.

    Attributes:
        name: The name of its owner.
        place: Its place; None: nowhere yet.
        gone: Whether it has left for good.
    """

    name: str
    place: Place | None = None
    gone: bool = False


class Window:
    """The news that one window has not been told yet."""

    def __init__(self, news: dict[str, Cursor]) -> None:
        self.news = news
        self.told = anyio.Event()
        self.told.set()

    def tell(self, id: str, cursor: Cursor) -> None:
        """Something has changed; of two changes of one cursor only the later matters."""
        self.news[id] = cursor
        self.told.set()

    async def next(self) -> dict[str, Cursor]:
        """All that has changed since the last time, once there is something."""
        await self.told.wait()
        self.told = anyio.Event()
        news, self.news = self.news, {}
        return news


class Board:
    """One board, for all sessions."""

    def __init__(self) -> None:
        self.cursors: dict[str, Cursor] = {}
        self.windows: dict[str, Window] = {}

    @wsrpc.method(on_disconnect="cancel")
    async def watch(self, name: str) -> AsyncIterator[dict[str, Cursor]]:
        """Be on the board: all cursors of others by id, and then those that change.

        It lasts as long as the window is there: `on_disconnect="cancel"` ends it with the
        connection.
        """
        if len(self.cursors) >= MOST:
            raise wsrpc.RpcError("resource_exhausted", "there is no room on the board")
        me = wsrpc.current().session.id
        if me in self.windows:
            raise wsrpc.RpcError("already_exists", "this session is on the board already")
        window = self.windows[me] = Window(dict(self.cursors))
        self._put(me, Cursor(name=name[:20]))
        try:
            while True:
                yield await window.next()
        finally:
            del self.windows[me]
            left = self.cursors.pop(me)
            self._tell(me, left.model_copy(update={"gone": True}))

    @wsrpc.method(oneway=True)
    async def move(self, place: Place) -> None:
        """The cursor is elsewhere."""
        me = wsrpc.current().session.id
        cursor = self.cursors.get(me)
        if cursor is not None:
            self._put(me, cursor.model_copy(update={"place": place}))

    def _put(self, id: str, cursor: Cursor) -> None:
        self.cursors[id] = cursor
        self._tell(id, cursor)

    def _tell(self, id: str, cursor: Cursor) -> None:
        for one, window in self.windows.items():
            if one != id:
                window.tell(id, cursor)

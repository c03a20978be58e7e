"""The board of cursors: who is on it, and what a slow window is told."""

from __future__ import annotations

import wsrpc
from examples.cursors.board import MOST, Board, Cursor, Place
from tests.proxy import resetting_proxy
from tests.support import error_of, served, soon, until


async def test_everybody_sees_the_others_cursors_move_and_leave() -> None:
    async with served([Board()]) as listener, wsrpc.connect(listener.url) as ann:
        anns = ann.clientize(Board)
        async with anns.watch("ann") as seen, wsrpc.connect(listener.url) as bob:
            # Nobody else is there.
            assert await anext(seen) == {}
            bobs = bob.clientize(Board)
            async with bobs.watch("bob") as seen_by_bob:
                assert await anext(seen_by_bob) == {ann.id: Cursor(name="ann")}
                assert await anext(seen) == {bob.id: Cursor(name="bob")}
                await bobs.move(Place(x=1, y=2))
                assert await anext(seen) == {bob.id: Cursor(name="bob", place=Place(x=1, y=2))}
            (left,) = (await anext(seen)).values()
            assert (left.name, left.gone) == ("bob", True)


async def test_a_window_that_is_slow_gets_the_newest_places_only() -> None:
    board = Board()
    async with served([board]) as listener:
        async with wsrpc.connect(listener.url) as slow, wsrpc.connect(listener.url) as quick:
            async with (
                slow.clientize(Board, window=1).watch("slow") as seen,
                quick.clientize(Board).watch("quick") as others,
            ):
                first = await anext(seen)
                await anext(others)
                moved = quick.clientize(Board)
                for x in range(500):
                    await moved.move(Place(x=x, y=0))

                def there() -> bool:
                    place = board.cursors[quick.id].place
                    return place is not None and place.x == 499

                items = 1
                last = first.get(quick.id)
                await until(there)
                with soon():
                    while last is None or last.place is None or last.place.x < 499:
                        last = (await anext(seen))[quick.id]
                        items += 1
                assert items < 100


async def test_a_window_that_goes_without_a_word_takes_its_cursor_along() -> None:
    board = Board()
    async with served([board]) as listener, wsrpc.connect(listener.url) as ann:
        async with ann.clientize(Board).watch("ann") as seen:
            assert await anext(seen) == {}
            async with resetting_proxy(listener.url) as proxy:
                async with wsrpc.connect(proxy.url) as bob:
                    stream = bob.clientize(Board).watch("bob")
                    await anext(stream)
                    assert [one.name for one in (await anext(seen)).values()] == ["bob"]
                    proxy.reset()
                    # Not after the resume window: at once.
                    assert [one.gone for one in (await anext(seen)).values()] == [True]
                    assert list(board.cursors) == [ann.id]
                    with error_of("cancelled"):
                        await anext(stream)


async def test_a_session_is_on_the_board_once_and_places_are_on_it() -> None:
    board = Board()
    async with served([board]) as listener, wsrpc.connect(listener.url) as session:
        proxy = session.clientize(Board)
        async with proxy.watch("ann") as seen:
            await anext(seen)
            with error_of("already_exists"):
                await anext(proxy.watch("ann"))
        board.cursors = {str(n): Cursor(name="x") for n in range(MOST)}
        with error_of("resource_exhausted"):
            await anext(proxy.watch("ann"))

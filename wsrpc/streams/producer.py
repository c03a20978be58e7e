"""The sending end of a stream: asks a source for items as credit and room allow.

It sends the streams of handlers and the uploads of callers. Items are gathered while the source
goes on without waiting for anything. They are handed over together when the source waits, when the
credit is used up, or when other streams should have a turn. So no item is held back by a source
that waits.

Encoding many items at once costs a third of encoding each. But an item may wait for that only if no
code can change it meanwhile: it holds nothing but plain values, and its source keeps no reference
to it.
"""

from __future__ import annotations

import types
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
)
from sys import getrefcount
from typing import Any, NoReturn

from ..stream import Final, LocalStream
from .pushing import Pushing

__all__ = ["Producer"]

# Items after which a stream that never waits lets others run. A turn of the loop costs about as
# much as a dozen items, and the items of one turn travel as one message. A single stream may send
# more in a turn. One of many streams sends fewer: if a hundred streams sent 32 items each, more than
# fits one message, the first ones would be done with a few hundred items when the last ones have a
# fifth to go.
TURN = 32
LONG_TURN = 256
SHORT_TURN = 16

# Items of the first turn of a stream among others: where many streams begin together, the last one
# should not have to wait for a whole turn of all the others.
FIRST_TURN = 8

# Items of all streams in one turn of the loop.
LOOP_TURN = 1024

# Seconds after which other streams have a turn, regardless of the number of items.
TURN_TIME = 0.0005

# Bytes. Items gathered unencoded are on average no larger than this.
SMALL = 512

# Items for which a source is awaited, once it had to be waited for.
AWAITED = 15

# The types of items that no code can change.
UNCHANGING = frozenset((bool, bytes, float, int, str, type(None)))


@types.coroutine
def _go_on(step: Generator[Any, Any, Any], waits_for: Any) -> Generator[Any, Any, Any]:
    """Await a step that has been begun by hand and waits for something."""
    while True:
        sent, thrown = None, None
        try:
            sent = yield waits_for
        except GeneratorExit:
            step.close()
            raise
        except BaseException as error:  # noqa: BLE001  (thrown on to where it belongs)
            thrown = error
        try:
            waits_for = step.send(sent) if thrown is None else step.throw(thrown)
        except StopIteration as stop:
            return stop.value
        finally:
            # The traceback of an exception held here would hold this frame. Trio sends its own in.
            del sent, thrown


def _references_of_an_unshared_item() -> int:
    """The result of `getrefcount` in `Producer._gather` for an item that its source does not hold."""

    async def source(shared: list[Any]) -> AsyncGenerator[Any, None]:
        yield object()
        shared.append(object())
        yield shared[0]

    counts = []

    async def count() -> None:
        async for item in source([]):
            counts.append(getrefcount(item))  # noqa: PERF401  (the same loop as there)

    try:
        count().send(None)
    except StopIteration:
        pass
    # Where the two results are equal, as on an interpreter that does not count, no item may wait.
    return counts[0] if counts[0] < counts[1] else -1


_UNSHARED = _references_of_an_unshared_item()

# The result of `Producer._gather` where all items may wait.
_ENOUGH = object()


class Producer(Pushing):
    """One stream of this side; the task that runs it sends the terminal."""

    __slots__ = ()

    async def _allowed(self) -> bool:
        """Wait until an item may be begun; False when the stream is to stop instead."""
        hub, lane = self._hub, self.lane
        while self._open():
            if not self._late and hub.endpoint.may_push(lane):
                return True
            await self._wait()
        return False

    async def _wait(self) -> None:
        hub = self._hub
        self._waiter = waiter = hub.runtime.future()
        no_room = hub.endpoint.lacks_room(self.lane)
        if no_room:
            hub.block(self.wake)
        observed = self._observed
        if observed is None:
            await waiter
            return
        began = hub.runtime.now()
        pause = hub.events.pause_begins(observed, began, for_credit=not no_room)
        try:
            await waiter
        finally:
            # The pause also ends where the stream is cancelled meanwhile, as streams of stalled
            # peers are.
            hub.events.pause_ends(pause)
            hub.events.paused(observed, hub.runtime.now() - began)

    # ---------------------------------------------------------------- the source

    def run(self, source: AsyncIterable[Any]) -> Coroutine[Any, Any, None]:
        """Send the items of `source` to its end; the source is closed in any case.

        A `Final` comes last, and its value is kept in `final` once the source has ended. Exceptions
        of `source` or the packer pass through; the items before them have been queued and will
        arrive.
        """
        if type(source) is LocalStream:
            # The generator inside of it can be driven step by step.
            source = source.detach()
        items = aiter(source)
        if isinstance(items, types.AsyncGeneratorType):
            return self._run_generator(items)
        return self._run_source(items)

    async def _close(self, items: Any) -> None:
        """Close the source, for any reason for which its stream has ended."""
        hub = self._hub
        hub.producers -= 1
        while self._late:
            hub.release(len(self._late.pop(0)))
        self.closing = True
        if self._stopped:
            self._spare()
        close = getattr(items, "aclose", None)
        try:
            if close is not None:
                await close()
        finally:
            # These are methods of the object that has this producer: a cycle that the garbage
            # collector would have to find.
            self._halt = self._spare = _nothing

    async def _all_gone(self) -> None:
        """Wait until no item is late any more: the terminal comes after all items."""
        while self._late and self._open():
            await self._wait()

    async def _end(self) -> None:
        """Hand over the items that are left, and wait until none is late any more."""
        try:
            self._hand_over()
        finally:
            await self._all_gone()

    async def _run_source(self, items: Any) -> None:
        """Send the items of a source that is no generator."""
        self._hub.producers += 1
        try:
            await self._run_iterator(items)
        except Exception:
            await self._end()
            raise
        else:
            await self._end()
        finally:
            await self._close(items)

    async def _run_iterator(self, items: Any) -> None:
        advance, pause = items.__anext__, self._hub.runtime.pause
        codec = self._hub.codec
        # A source whose items are encoded already hands over all that are there.
        at_hand = getattr(items, "at_hand", None) if codec.text else None
        turn = 0
        while True:
            if self._late or not self._hub.endpoint.may_push(self.lane):
                if not await self._allowed():
                    return
                turn = 0
            if at_hand is not None and self._open():
                most = min(self.lane.allowance, TURN)
                packs, n = at_hand(codec, most, self._hub.endpoint.share)
                if n:
                    self._hub.endpoint.push_packs(self.lane, packs, n)
                    self._hub.wake()
                    turn += n
                    if turn >= TURN:
                        turn = 0
                        await pause()
                    continue
            try:
                item = await advance()
            except StopAsyncIteration:
                return
            if type(item) is Final or not self._send(item):
                await self._run_out(item, advance)
                return
            # What waits is held once, as its encoding.
            item = None
            turn += 1
            if turn >= TURN:
                turn = 0
                await pause()

    async def _run_generator(self, items: AsyncGenerator[Any, Any]) -> None:
        """Send the items of a generator.

        It is driven step by step, so that items that it yields without waiting are gathered. Where
        it waits, it is awaited for some items, which is cheaper.
        """
        hub, lane, held, keeps = self._hub, self.lane, self._held, self._packer.keeps
        advance, now = items.__anext__, hub.runtime.now
        # Items in this turn, and items to await before the next look at whether the source waits.
        turn, awaited = 0, 0
        began, most = 0.0, LONG_TURN
        hub.producers += 1
        try:
            if hub.driver is not None and hub.driver.behind:
                # Begin together with the streams that were asked for in the same message.
                await hub.driver.caught_up()
                # Meanwhile others may have put the peer above its bound on memory.
                await hub.admitted(0)
            first = hub.producers > 1
            while True:
                if self._room <= 0:
                    if held:
                        self._hand_over()
                    stopped = self._stopped or hub.lost is not None
                    if stopped or self._late or not hub.endpoint.may_push(lane):
                        if not await self._allowed():
                            break
                        turn = 0
                    elif turn >= most or (turn and now() - began > TURN_TIME):
                        await hub.runtime.pause()
                        turn = 0
                        if not hub.endpoint.may_push(lane):
                            continue
                    if turn == 0:
                        began = now()
                        most = max(SHORT_TURN, min(LONG_TURN, LOOP_TURN // hub.producers))
                        if first:
                            first, most = False, FIRST_TURN
                    self._room = min(lane.allowance, TURN, most)
                if awaited:
                    awaited -= 1
                    item = await advance()
                else:
                    gathers = keeps and self._mean is not None and self._mean < SMALL
                    step: Any = self._gather(items) if gathers else advance()
                    try:
                        waits_for = step.send(None)
                    except StopIteration as stop:
                        item = stop.value
                    else:
                        # It is likely to wait for its next items too.
                        awaited = AWAITED
                        try:
                            self._hand_over()
                        except Exception as failure:  # noqa: BLE001  (raised after the step)
                            await self._let_down(step, waits_for, failure)
                        # The item that it waits for ends the step, and a turn begins after it.
                        self._room, turn = 0, -1
                        item = await _go_on(step, waits_for)
                    turn += len(held)
                    self._room -= len(held)
                    if item is _ENOUGH:
                        continue
                    if held:
                        self._hand_over()
                turn += 1
                self._room -= 1
                if type(item) is Final or not self._send(item):
                    await self._run_out(item, advance)
                    break
                # What waits is held once, as its encoding.
                item = None
        except StopAsyncIteration:
            await self._end()
        except Exception:
            await self._end()
            raise
        else:
            await self._end()
        finally:
            self._hand_over()
            await self._close(items)

    async def _gather(self, items: AsyncGenerator[Any, Any]) -> Any:
        """Gather items that may be encoded later; the result is the first one that may not.

        Most of the time that an item takes is spent in this loop.

        Raises:
            StopAsyncIteration: There are no more.
        """
        held = self._held
        async for item in items:
            if type(item) is Final or (
                getrefcount(item) != _UNSHARED and type(item) not in UNCHANGING
            ):
                return item
            held.append(item)
            if len(held) >= self._room:
                return _ENOUGH
            item = None
        raise StopAsyncIteration

    async def _run_out(self, last: Any, advance: Callable[[], Awaitable[Any]]) -> None:
        """Let a source that has given its final value run to its end, without credit (END-3).

        Args:
            last: The final value, or an item that came too late.
            advance: Asks the source for its next item.
        """
        if type(last) is not Final:
            return
        final = self._packer.final(last.value)
        if not self._open():
            return
        try:
            item = await advance()
        except StopAsyncIteration:
            self.final = final
            return
        raise RuntimeError(f"{item!r} was yielded after the final value, which comes last")

    async def _let_down(
        self, step: Generator[Any, Any, Any], waits_for: Any, failure: Exception
    ) -> NoReturn:
        """Raise `failure` while the source waits; the source must not go on waiting.

        A generator cannot be closed in the middle of a step, and an event loop must hear of a wait
        that was begun. So the wait is begun and cancelled, as the peer's `cancel` would do it.
        """
        self.closing = True
        self._halt()
        try:
            await _go_on(step, waits_for)
        except (self._hub.runtime.cancelled_class(), StopAsyncIteration):
            pass
        finally:
            self._spare()
            self._held.clear()
        try:
            raise failure
        finally:
            # Its traceback holds this frame.
            del failure


def _nothing() -> None:
    pass

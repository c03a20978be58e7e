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

from ..engine.hub import Hub
from ..engine.ledger import STEP
from ..interfaces import ObservedCall
from ..protocol.lanes import Sender
from ..protocol.splice import Encoded
from ..runtime import Future
from ..stream import Final, LocalStream
from ..values.adapter import Adapter, Unencodable

__all__ = ["Packer", "Producer"]

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

# Bytes. Items gathered unencoded are on average no larger than this. They go as one pack only if
# all of them together are not larger than a lane's turn in the outbox.
SMALL = 512
PACK = 16 * 1024

# Items for which a source is awaited that had to be waited for.
AWAITED = 15

# The types of items that no code can change.
UNCHANGING = frozenset((bool, bytes, float, int, str, type(None)))


class Packer:
    """Encodes the items and the final value of one stream.

    Args:
        hub: The hub with the codec.
        item: The declared type of the items.
        final: The declared type of the final value, if there may be one.
        check: Whether values are validated before they leave.
        no_final: The message of the error for a final value that was not declared.
    """

    __slots__ = ("_check", "_codec", "_final", "_item", "_no_final", "keeps")

    def __init__(
        self, hub: Hub, item: Adapter, final: Adapter | None, *, check: bool, no_final: str
    ) -> None:
        self._codec = hub.codec
        self._no_final = no_final
        self._item = item
        self._final = final
        self._check = check
        # Whether an item that no other code can change is the same when it is encoded later.
        self.keeps = check and item.flat and self._codec.text

    def one(self, item: Any) -> Encoded:
        """The encoding of an item."""
        return self._item.dump(item, self._codec, check=self._check)

    def many(self, items: list[Any]) -> bytes:
        """The encodings of items, one after the other."""
        return self._item.dump_many(items)

    def final(self, value: Any) -> Encoded:
        """The encoding of the final value."""
        if self._final is None:
            raise TypeError(self._no_final)
        return self._final.dump(value, self._codec, check=self._check)


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
            # An exception held here would hold this frame by its traceback.
            del thrown


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


class Producer:
    """One stream of this side; the task that runs it sends the terminal.

    Args:
        hub: The hub of its session.
        lane: Its id.
        packer: Encodes it.
        halt: Cancels the task that runs it.
        spare: Withdraws a cancellation that has not reached that task.

    Attributes:
        lane: Its id.
        final: The encoding of the final value, once the source has ended with one.
        closing: Whether the source is being closed; a cancellation then would cut its cleanup
            short.
    """

    __slots__ = (
        "_halt",
        "_held",
        "_hub",
        "_late",
        "_mean",
        "_observed",
        "_packer",
        "_room",
        "_spare",
        "_stopped",
        "_waiter",
        "closing",
        "final",
        "lane",
    )

    def __init__(
        self,
        hub: Hub,
        lane: Sender,
        packer: Packer,
        *,
        halt: Callable[[], None],
        spare: Callable[[], None],
        observed: ObservedCall | None = None,
    ) -> None:
        self._observed = observed
        self._hub = hub
        self._packer = packer
        self._halt = halt
        self._spare = spare
        self.lane = lane
        self.final: Encoded | None = None
        self._waiter: Future | None = None
        self._stopped = False
        self.closing = False
        # Gathered, not encoded yet; and how many may be before the next look at everything else.
        self._held: list[Any] = []
        self._room = 0
        # Encoded items that turned out larger than expected, and lack credit or room for now.
        self._late: list[Encoded] = []
        self._mean: float | None = None

    def stop(self) -> None:
        """Ask for no further item, even if the source ignores its cancellation."""
        self._stopped = True
        self.wake()

    def wake(self) -> None:
        """Go on: there is credit or room again, or no reason to wait for it any more."""
        if self._late:
            self._push_late()
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _open(self) -> bool:
        return self.lane.may_send and not self._stopped and self._hub.lost is None

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
            # Also where the stream is cancelled meanwhile, as those of stalled peers are in the end.
            hub.events.pause_ends(pause)
            hub.events.paused(observed, hub.runtime.now() - began)

    def _count(self, observed: ObservedCall, items: int) -> None:
        self._hub.events.items(observed, "sent", items)

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
        """Close the source, whatever has ended its stream."""
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
            # They belong to whoever has this producer: a cycle, which the garbage collector would
            # have to find.
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
                pack, n = at_hand(codec, min(self.lane.allowance, TURN), PACK)
                if n:
                    self._hub.endpoint.push_pack(self.lane, pack, n)
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
            # By its traceback it holds this frame.
            del failure

    # ---------------------------------------------------------------- to the endpoint

    def _hand_over(self) -> None:
        """Send the gathered items."""
        n = len(self._held)
        if not n:
            return
        held = self._held.copy()
        self._held.clear()
        if not self._open():
            return
        pack = None
        if n > 1 and not self._late:
            try:
                pack = self._packer.many(held)
            except Unencodable:
                # One item does not validate. The items before it go.
                pass
        if pack is not None and len(pack) <= PACK:
            self._mean = len(pack) / n
            self._hub.endpoint.push_pack(self.lane, pack, n)
            if self._observed is not None:
                self._count(self._observed, n)
            self._hub.wake()
            return
        for item in held:
            self._send(item)

    def _send(self, item: Any) -> bool:
        """Encode one item, and send it as soon as credit and room allow; False if it is too late."""
        hub, lane = self._hub, self.lane
        ready = not self._late and hub.endpoint.may_push(lane)
        if self._stopped or hub.lost is not None or not (ready or lane.may_send):
            return False
        data = self._packer.one(item)
        if self._observed is not None:
            self._count(self._observed, 1)
        size = len(data)
        self._mean = size if self._mean is None else self._mean + (size - self._mean) / 8
        if ready:
            hub.endpoint.push(lane, data)
            if size >= STEP:
                hub.settle()
                # No item may follow a large one until all of that has gone.
                self._room = 0
            hub.wake()
            return True
        # The item fails here, at its place in the stream; later the error could not be raised there.
        hub.endpoint.check_size(size)
        self._room = 0
        self._late.append(data)
        hub.hold(size)
        if hub.endpoint.lacks_room(lane):
            hub.block(self.wake)
        return True

    def _push_late(self) -> None:
        endpoint = self._hub.endpoint
        while self._late and endpoint.may_push(self.lane):
            item = self._late.pop(0)
            endpoint.push(self.lane, item)
            self._hub.release(len(item))
            self._hub.wake()
        if self._late and endpoint.lacks_room(self.lane):
            self._hub.block(self.wake)


def _nothing() -> None:
    pass

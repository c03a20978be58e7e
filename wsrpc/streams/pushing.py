"""Items of one stream on their way to the endpoint: gathered, encoded, handed over.

All of it is synchronous, and compiled where the core is; `producer` asks the source, and waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..engine.hub import Hub
from ..engine.ledger import STEP
from ..interfaces import ObservedCall
from ..protocol.lanes import Sender
from ..protocol.splice import Encoded
from ..runtime import Future
from ..runtime.compiling import mypyc_attr
from ..values.adapter import Adapter, Unencodable

__all__ = ["Packer", "Pushing"]


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


@mypyc_attr(allow_interpreted_subclasses=True)
class Pushing:
    """The part of a `Producer` between two waits.

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
        # Items that are gathered and not encoded yet, and the number that may be gathered before
        # the next look at everything else.
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

    def _count(self, observed: ObservedCall, items: int) -> None:
        self._hub.events.items(observed, "sent", items)

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
        # They go as one only if all of them may go in one frame.
        if pack is not None and len(pack) <= self._hub.endpoint.share:
            self._mean = len(pack) / n
            self._hub.endpoint.push_packs(self.lane, (pack,), n)
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
        mean = self._mean
        self._mean = float(size) if mean is None else mean + (size - mean) / 8
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

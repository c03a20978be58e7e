"""The receiver of the endpoint's reports about one id."""

from __future__ import annotations

from msgspec import Raw

from ..errors import ConnectionLost
from ..protocol.frames import End, Error, Result
from ..runtime.compiling import mypyc_attr

__all__ = ["LaneOwner", "Terminal"]

Terminal = Result | End | Error


@mypyc_attr(allow_interpreted_subclasses=True)
class LaneOwner:
    """The hub's side of one live id; each kind overrides the events that it can get."""

    __slots__ = ()

    def on_arguments(self) -> None:
        raise AssertionError(f"arguments for {self!r}")

    def on_items(self, items: list[Raw]) -> None:
        raise AssertionError(f"items for {self!r}")

    def on_finished(self, frame: Terminal) -> None:
        raise AssertionError(f"a terminal for {self!r}")

    def on_credit(self) -> None:
        """More items may be sent; only senders of streams override this."""

    def on_cancel(self, reason: str) -> None:
        raise AssertionError(f"cancel for {self!r}")

    def on_started(self) -> None:
        """The call was numbered."""

    def on_lost(self, error: ConnectionLost) -> None:
        raise AssertionError(f"the loss of {self!r}")

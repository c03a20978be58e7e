"""Items of tracked streams, which travel as `[id, value]` (protocol.md RETRY-3)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, TypeVar

from msgspec import Raw
from pydantic import Field

from ..protocol.codec import Codec
from ..protocol.splice import Encoded
from ..stream import Tracked
from .adapter import Adapter, InvalidValue, Unencodable

__all__ = ["Shared", "TrackedAdapter"]

T = TypeVar("T")

# Characters.
MAX_ID = 1024


class Shared(Tracked[T]):
    """An item for many sessions: it is encoded once for each codec, in any number of streams.

    It is checked against the type given here, and not against the type of each method that yields
    it. Its value must not change any more.

    Args:
        id: As for `Tracked`.
        value: As for `Tracked`.
        adapter: Encodes it.
    """

    __slots__ = ("_adapter", "_encoded")

    def __init__(self, id: str, value: T, adapter: TrackedAdapter) -> None:
        super().__init__(id, value)
        self._adapter = adapter
        self._encoded: dict[str, bytes] = {}

    def encoded(self, codec: Codec) -> bytes:
        """Its encoding.

        Raises:
            Unencodable: It does not fit the type.
        """
        data = self._encoded.get(codec.name)
        if data is None:
            data = self._encoded[codec.name] = bytes(self._adapter.dump_pair(self, codec))
        return data


class TrackedAdapter(Adapter):
    """Encodes and decodes `Tracked` items.

    Args:
        annotation: The type of their values.
        where: The name of the items in messages.
    """

    __slots__ = ()

    def __init__(self, annotation: Any, *, where: str) -> None:
        pair = tuple[Annotated[str, Field(max_length=MAX_ID)], annotation]
        super().__init__(pair, where=where)
        # Each item is taken apart and encoded by itself.
        self.flat = False

    def dump_pair(self, item: Tracked[Any], codec: Codec) -> Encoded:
        """The encoding of an item, checked.

        Raises:
            Unencodable: It does not fit the type.
        """
        return super().dump((item.id, item.value), codec)

    def dump(self, value: Any, codec: Codec, *, check: bool = True) -> Encoded:
        if type(value) is Shared:
            return value.encoded(codec)
        if not isinstance(value, Tracked):
            raise Unencodable(
                f"{self.where}: it is declared to be Tracked; yield wsrpc.Tracked(id, value), not "
                f"{type(value).__name__}"
            )
        return super().dump((value.id, value.value), codec, check=check)

    def load(self, raw: Raw | Encoded, codec: Codec, *, check: bool = True) -> Any:
        return _tracked(super().load(raw, codec, check=check))

    def loader(self, codec: Codec, *, check: bool) -> Callable[[bytes], Any]:
        return partial(self.load, codec=codec, check=check)

    def load_many(self, data: bytes, codec: Codec, *, check: bool = True) -> list[Any]:
        return [_tracked(pair) for pair in super().load_many(data, codec, check=check)]


def _tracked(pair: Any) -> Tracked[Any]:
    # An unchecked pair may be any object.
    if len(pair) == 2 if isinstance(pair, (list, tuple)) else False:
        id, value = pair
        if isinstance(id, str):
            return Tracked(id, value)
    error = {"loc": [], "msg": "A tracked item is [id, value]", "type": "tracked"}
    raise InvalidValue([error])

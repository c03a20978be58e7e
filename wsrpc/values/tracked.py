"""How the items of a tracked stream travel: as `[id, value]` (protocol.md RETRY-3)."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Raw
from pydantic import Field

from ..protocol.codec import Codec
from ..protocol.splice import Encoded
from ..stream import Tracked
from .adapter import Adapter, InvalidValue, Unencodable

__all__ = ["TrackedAdapter"]

# Characters.
MAX_ID = 1024


class TrackedAdapter(Adapter):
    """Encodes and decodes `Tracked` items.

    Args:
        annotation: The type of their values.
        where: What messages call the items.
    """

    __slots__ = ()

    def __init__(self, annotation: Any, *, where: str) -> None:
        pair = tuple[Annotated[str, Field(max_length=MAX_ID)], annotation]
        super().__init__(pair, where=where)
        # Each is taken apart and encoded by itself.
        self.flat = False

    def dump(self, value: Any, codec: Codec, *, check: bool = True) -> Encoded:
        if not isinstance(value, Tracked):
            raise Unencodable(
                f"{self.where}: it is declared to be Tracked; yield wsrpc.Tracked(id, value), not "
                f"{type(value).__name__}"
            )
        return super().dump((value.id, value.value), codec, check=check)

    def load(self, raw: Raw | Encoded, codec: Codec, *, check: bool = True) -> Any:
        return _tracked(super().load(raw, codec, check=check))

    def load_many(self, data: bytes, codec: Codec, *, check: bool = True) -> list[Any]:
        return [_tracked(pair) for pair in super().load_many(data, codec, check=check)]


def _tracked(pair: Any) -> Tracked[Any]:
    # Unchecked, it may be anything.
    if len(pair) == 2 if isinstance(pair, (list, tuple)) else False:
        id, value = pair
        if isinstance(id, str):
            return Tracked(id, value)
    error = {"loc": [], "msg": "A tracked item is [id, value]", "type": "tracked"}
    raise InvalidValue([error])

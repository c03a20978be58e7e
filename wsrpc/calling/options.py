"""The options of one `clientize`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import EllipsisType

from ..context import checked_metadata
from ..interfaces import Interceptor, Overflow, StreamFetcher, Validate
from ..streams.overflow import CONSUMERS

__all__ = ["Options"]

UNARY_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one `clientize`; see `Session.clientize`."""

    stream_fetcher: StreamFetcher | None = None
    timeout: float | EllipsisType | None = ...
    idle_timeout: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    validate: Validate = "both"
    overflow: Overflow = "block"
    window: int | None = None
    interceptors: tuple[Interceptor, ...] = ()

    def __post_init__(self) -> None:
        if self.validate not in ("both", "arrival", "none"):
            raise ValueError(f"validate must be 'both', 'arrival' or 'none', not {self.validate!r}")
        if self.overflow not in CONSUMERS:
            names = ", ".join(map(repr, CONSUMERS))
            raise ValueError(f"overflow must be one of {names}, not {self.overflow!r}")
        if self.window is not None and self.window < 1:
            raise ValueError(f"window must be at least 1 item, not {self.window!r}")
        checked_metadata(self.metadata)

    def unary_timeout(self) -> float | None:
        return UNARY_TIMEOUT if self.timeout is ... else self.timeout

    def stream_timeout(self) -> float | None:
        return None if self.timeout is ... else self.timeout

"""The options of one `clientize`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import EllipsisType

from ..context import checked_metadata
from ..interfaces import Interceptor, Overflow, StreamFetcher, Validate
from ..limits import MAX_CREDIT
from ..options import VALIDATES, checked_count, checked_function, checked_seconds, one_of
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
        one_of("validate", self.validate, VALIDATES)
        one_of("overflow", self.overflow, tuple(CONSUMERS))
        checked_count("window", self.window, "item", MAX_CREDIT)
        if self.timeout is not ...:
            checked_seconds("timeout", self.timeout)
        checked_seconds("idle_timeout", self.idle_timeout)
        checked_function("stream_fetcher", self.stream_fetcher, "request", "fetch")
        checked_metadata(self.metadata)

    def unary_timeout(self, declared: float | None) -> float | None:
        """Seconds for a call of a method that the other end cancels after `declared` seconds."""
        if self.timeout is not ...:
            return self.timeout
        return UNARY_TIMEOUT if declared is None else declared

    def stream_timeout(self, declared: float | None) -> float | None:
        """Seconds for a stream of a method that the other end cancels after `declared` seconds."""
        return declared if self.timeout is ... else self.timeout

"""The answers by which the tools of NATS list the nodes of a cluster: `nats micro list`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from ..version import __version__

__all__ = ["SUBJECTS", "Micro"]

# `$SRV.<verb>`, `$SRV.<verb>.<service>` and `$SRV.<verb>.<service>.<id>`.
SUBJECTS = "$SRV.>"


class Micro:
    """This node as a service of NATS.

    Args:
        cluster: The cluster's name.
        node: This node's id.
        subject: The subject on which other nodes reach it.
        meta: The operator's notes about it.
        began: Seconds since 1970. The time at which it began.
        counters: Gives its counters; see `ClusterSnapshot`.
    """

    def __init__(
        self,
        cluster: str,
        node: str,
        subject: str,
        meta: Mapping[str, str],
        began: float,
        counters: Callable[[], Mapping[str, int]],
    ) -> None:
        self._name = f"wsrpc-{cluster}"
        self._node = node
        self._subject = subject
        self._meta = dict(meta)
        self._started = datetime.fromtimestamp(began, UTC).isoformat().replace("+00:00", "Z")
        self._counters = counters

    def answer(self, subject: str) -> bytes | None:
        """The answer to a request on one of the subjects; None where it is not for this node."""
        verb, *whom = subject.split(".")[1:]
        if whom != [self._name, self._node][: len(whom)]:
            return None
        more: dict[str, Any]
        if verb == "PING":
            more = {}
        elif verb == "INFO":
            more = {"description": "a node of a wsrpc cluster", "endpoints": [self._endpoint()]}
        elif verb == "STATS":
            more = {"started": self._started, "endpoints": [self._endpoint() | self._stats()]}
        else:
            return None
        return msgspec.json.encode(
            {
                "type": f"io.nats.micro.v1.{verb.lower()}_response",
                "name": self._name,
                "id": self._node,
                "version": __version__,
                "metadata": self._meta,
                **more,
            }
        )

    def _endpoint(self) -> dict[str, Any]:
        return {"name": "node", "subject": self._subject, "queue_group": ""}

    def _stats(self) -> dict[str, Any]:
        counters = dict(self._counters())
        return {
            "num_requests": counters["relayed_total"],
            "num_errors": counters["relay_refused"],
            "last_error": "",
            "processing_time": 0,
            "average_processing_time": 0,
            "data": counters,
        }

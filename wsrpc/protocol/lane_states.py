"""Which side may send which frame on an id: the state tables of protocol.md, literally.

Where those tables tell states apart by the kind of call, each kind has states of its own here. A
frame that is not in the row of the present state is a failed look-up.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ["END", "RECEIVED", "SENDING", "SENT", "LocalProtocolError", "State"]

State: TypeAlias = Literal[
    "calling",
    "streaming",
    "cancelling",
    "notifying",
    "notifying, cancelled",
    "invoking",
    "invoking, cancelled",
    "running",
    "yielding",
    "notified",
    "invoked",
    "cancelled",
    "waiting",
    "uploading",
    "withdrawn",
    "stopping",
    "reading",
    "stopped reading",
    "offered",
    "finished",
]

END: State = "finished"

# fmt: off
RECEIVED: dict[State, dict[str, State]] = {
    # the caller
    "calling":              {"message": "streaming", "result": END, "end": END, "error": END},
    "streaming":            {"message": "streaming", "end": END, "error": END},
    "cancelling":           {"message": "cancelling", "result": END, "end": END, "error": END},
    "notifying":            {"end": END, "error": END},
    "notifying, cancelled": {"end": END, "error": END},
    "invoking":             {"result": END, "error": END},
    "invoking, cancelled":  {"result": END, "error": END},
    # the callee
    "running":              {"credit": "running", "cancel": "cancelled"},
    "yielding":             {"credit": "yielding", "cancel": "cancelled"},
    "notified":             {"credit": "notified", "cancel": "cancelled"},
    "invoked":              {"credit": "invoked", "cancel": "cancelled"},
    "cancelled":            {"credit": "cancelled", "cancel": "cancelled"},
    # the sender of an upload
    "waiting":              {},
    "uploading":            {"credit": "uploading", "cancel": "stopping"},
    "withdrawn":            {"credit": "withdrawn", "cancel": "stopping"},
    "stopping":             {"credit": "stopping", "cancel": "stopping"},
    # the receiver of an upload
    "reading":              {"message": "reading", "end": END, "error": END},
    "stopped reading":      {"message": "stopped reading", "end": END, "error": END},
    # a callback
    "offered":              {},
    END:                    {},
}

SENT: dict[State, dict[str, State]] = {
    # the caller
    "calling":              {"credit": "calling", "cancel": "cancelling"},
    "streaming":            {"credit": "streaming", "cancel": "cancelling"},
    "cancelling":           {},
    "notifying":            {"cancel": "notifying, cancelled"},
    "notifying, cancelled": {},
    "invoking":             {"cancel": "invoking, cancelled"},
    "invoking, cancelled":  {},
    # the callee
    "running":              {"message": "yielding", "result": END, "end": END, "error": END},
    "yielding":             {"message": "yielding", "end": END, "error": END},
    "notified":             {"end": END, "error": END},
    "invoked":              {"result": END, "error": END},
    "cancelled":            {"error": END},
    # the sender of an upload
    "waiting":              {},
    "uploading":            {"message": "uploading", "end": END, "error": END},
    "withdrawn":            {"error": END},
    "stopping":             {"error": END},
    # the receiver of an upload
    "reading":              {"credit": "reading", "cancel": "stopped reading"},
    "stopped reading":      {},
    # a callback
    "offered":              {},
    END:                    {},
}
# fmt: on

# The states in which a stream's sender may begin an item.
SENDING = frozenset(state for state, row in SENT.items() if "message" in row)


class LocalProtocolError(RuntimeError):
    """This side asked for a frame that the state table does not allow: a bug of this side."""

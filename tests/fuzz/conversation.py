"""A conversation with everything in it, to be tampered with."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Raw

from tests.protocol.harness import Pair, deliver
from wsrpc.limits import Limits
from wsrpc.protocol.codec import Codec
from wsrpc.protocol.endpoint import Endpoint
from wsrpc.protocol.events import CallReceived
from wsrpc.protocol.frames import CallOptions, ErrorBody
from wsrpc.protocol.lanes import InCall

__all__ = ["CODES", "LIMITS", "conversation"]

# The codes with which an endpoint may close on what it was sent.
CODES = {1007, 1009, 4004, 4010, 4500, 4501, 4505, 4507}

LIMITS = Limits(window=3, max_batch=100_000, max_calls=8)


def conversation(codec: Codec) -> Iterator[tuple[Endpoint, bytes, Pair]]:
    """A conversation with everything in it; yields each batch before it is delivered."""
    pair = Pair(codec, LIMITS, LIMITS)
    client, server = pair.client, pair.server
    dump = codec.dump
    handled: list[InCall] = []

    def carry() -> Iterator[tuple[Endpoint, bytes, Pair]]:
        quiet = False
        while not quiet:
            quiet = True
            for end, other in ((client, server), (server, client)):
                while (data := end.next_batch(pair.now)) is not None:
                    quiet = False
                    yield other, data, pair
                    events = deliver(other, data)
                    handled.extend(e.call for e in events if isinstance(e, CallReceived))

    early = client.call("A.early", dump({"x": [1, {"y": None}]}), deadline=1005.0, uploads=("u",))
    yield from carry()
    big = client.call(
        "A.big", dump({}), options=CallOptions(metadata={"k": "v"}, key="key", last_id="id"),
        uploads=("u", "v"), callbacks=("c", "d"), window=2,
    )  # fmt: skip
    note = client.call("A.note", dump({"line": "x"}), oneway=True)
    back = server.call("Guest.name", dump({}), parent=handled[0])
    yield from carry()
    by_method = {call.method: call for call in handled}
    early_in, big_in, note_in = (by_method[name] for name in ("A.early", "A.big", "A.note"))
    for upload in (early.uploads["u"], *big.uploads.values()):
        client.push(upload, dump({"n": 1}))
        client.push(upload, dump("two"))
    server.push(big_in, dump([1]))
    server.push(big_in, dump("x" * 70_000))
    target = big_in.callbacks["c"]
    invocation = server.call(target.id, dump([50]), target=target, parent=big_in)
    yield from carry()
    server.finish(note_in)
    client.consumed(big, 3, waiting=True)
    server.consumed(early_in.uploads["u"], 2, waiting=True)
    server.cancel(big_in.uploads["v"])
    client.finish(early.uploads["u"])
    client.finish(big.uploads["u"])
    yield from carry()
    client.fail(big.uploads["v"], ErrorBody("cancelled", ""))
    client.result(next(call for call in handled if call.offer is not None), dump(None))
    client.result(next(call for call in handled if call.method == "Guest.name"), dump("Ann"))
    server.result(early_in, dump({"sum": 3}))
    yield from carry()
    client.cancel(big, "deadline_exceeded")
    yield from carry()
    server.fail(big_in, ErrorBody("aborted", "no", Raw(dump({"a": 1})), "Type", "e1"))
    client.call("A.end", dump({}))
    yield from carry()
    server.finish(handled[-1], dump({"final": True}))
    yield from carry()
    assert client.quiescent
    assert server.quiescent
    assert not note.id == back.id == invocation.id == 0

"""`wsrpc call`: one call, its items as they come, its uploads from standard input."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..engine.failures import WrongKindError
from ..errors import Code, RpcError
from ..interfaces import Session
from ..stream import Stream
from .answering import Answers
from .arguments import Argument, bind, hints, parse
from .connection import Target, contract_of
from .failures import Failure, did_you_mean, note
from .output import Output
from .remote_contract import Contract, Method, split_path
from .stdin import items_of_file, items_of_stdin
from .text import to_json

__all__ = ["call"]


async def call(
    target: Target,
    path: str,
    words: Sequence[str],
    output: Output,
    answers: Answers,
    *,
    raw_input: bool,
) -> None:
    """Call a method and write its answer.

    Args:
        target: The server.
        path: `Controller.method`.
        words: The arguments as typed.
        output: Takes the answer.
        answers: The answers to the server's own calls, and to callbacks.
        raw_input: Whether lines of standard input are text rather than JSON.

    Raises:
        Failure: The call cannot be right; it was not sent.
        ConnectError: There is no server to call.
        RpcError: The call ended with this error.
    """
    given = parse(words)
    controller, name = split_path(path)
    async with target.session() as session:
        # The reserved controllers, which are the protocol's own, are not in a contract.
        reserved = controller.startswith("wsrpc.")
        contract = None if reserved else await contract_of(session, target)
        method = _method(contract, path, controller, name)

        def stdin() -> AsyncIterator[Any]:
            answers.keep_terminal()
            return items_of_stdin(text=raw_input)

        def items_of(file: Path, raw: bool) -> AsyncIterator[Any]:
            return items_of_file(file, text=raw_input, raw=raw)

        arguments = bind(path, given, method, stdin, items_of, answers.callback)
        proxy = _proxy(session, target, contract, controller)
        try:
            await _answer(getattr(proxy, name)(**arguments), method, output)
        except RpcError as error:
            _add_hints(error, given, method)
            raise


def _method(contract: Contract | None, path: str, controller: str, name: str) -> Method | None:
    if not name:
        homes = contract.homes_of(path) if contract is not None else []
        hint = f"; did you mean {' or '.join(homes)}?" if homes else ""
        if contract is not None and path in contract.controllers:
            hint = did_you_mean("", [f"{path}.{one}" for one in contract.controller(path).methods])
        raise Failure(f"{path!r} names no method; write Controller.method{hint}")
    return None if contract is None else contract.method(controller, name)


def _proxy(session: Session, target: Target, contract: Contract | None, controller: str) -> Any:
    described = controller if contract is None else contract.for_clientize(controller)
    return session.clientize(described, **target.options)


async def _answer(answer: Any, method: Method | None, output: Output) -> None:
    if method is None:
        await _whatever(answer, output)
    elif method.kind == "stream":
        await _items(answer, output)
    elif method.kind == "unary":
        await output.value(await answer)
    else:
        await answer


async def _items(stream: Stream[Any, Any], output: Output) -> None:
    async with stream:
        async for item in stream:
            await output.item(item)
        if stream.final is not None:
            note(f"final: {to_json(stream.final)}")


async def _whatever(answer: Any, output: Output) -> None:
    """Take a stream or a value, for a method of unknown kind."""
    try:
        await _items(answer, output)
    except WrongKindError as error:
        if error.answer is None:
            raise
        await output.value(error.answer[0])


def _add_hints(error: RpcError[Any], given: Mapping[str, Argument], method: Method | None) -> None:
    if error.code == Code.INVALID_ARGUMENT and isinstance(error.data, dict):
        errors = error.data.get("errors")
        for hint in hints(given, method, errors if isinstance(errors, list) else []):
            error.add_note(hint)

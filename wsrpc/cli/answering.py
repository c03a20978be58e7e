"""`wsrpc call --answer`: answers to the server's own calls, from the command line or by hand."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import anyio
import typer

from ..contract.controller import RESERVED, Interface
from ..contract.docs import Docs
from ..contract.expose import Exposed
from ..contract.signature import MethodOptions, MethodSpec
from ..errors import Code, RpcError
from ..handling.target import MethodEntry
from ..interfaces import ObservedCall, Observer
from ..stream import stream_of
from ..values.adapter import Adapter
from .failures import Failure, note
from .remote_contract import Param
from .schemas import type_text
from .stdin import load_json
from .text import shortened, to_json
from .worker import Worker

__all__ = ["Answers", "Terminal", "parse_answers"]

# Characters of a question's arguments that are shown.
WIDTH = 500

# The end of a name whose answer is a stream, and the word for that at the terminal.
ITEMS = "[]"
STREAM = "stream"

# The kind of a call of the server, inside of its handler.
_kind: ContextVar[str] = ContextVar("wsrpc_cli_kind", default="unary")


@dataclass(frozen=True, slots=True)
class Items:
    """An answer that is a stream.

    Attributes:
        values: Its items in a list; None where they are typed at the terminal.
    """

    values: list[Any] | None


def parse_answers(words: Iterable[str]) -> dict[str, Any]:
    """Answers as typed: `Controller.method=JSON`, or `parameter=JSON` for a callback.

    `Controller.method[]=JSON` is a stream, and the JSON an array of its items.

    Raises:
        Failure: An answer is no JSON, or comes twice, or the items of a stream are no array.
    """
    found: dict[str, Any] = {}
    for word in words:
        typed, sign, text = word.partition("=")
        name = typed.removesuffix(ITEMS)
        if not sign or not name:
            raise Failure(f"--answer {word!r} has no '='; write --answer 'Screen.confirm=true'")
        if name in found:
            raise Failure(f"--answer {name} is given twice")
        text_form = f"[{to_json(text)}]" if typed != name else to_json(text)
        try:
            value = load_json(text)
        except ValueError as error:
            raise Failure(
                f"--answer {word} is not JSON ({error}); for text write --answer "
                f"'{typed}={text_form}'"
            ) from None
        if typed != name and not isinstance(value, list):
            raise Failure(f"--answer {word}: the items of a stream are an array: '{typed}=[1, 2]'")
        found[name] = value if typed == name else Items(value)
    return found


class Terminal:
    """Asks the person at the keyboard, one question after the other."""

    def __init__(self) -> None:
        self._worker = Worker()
        self._turn = anyio.Lock()
        # The question that is shown, and a line that was typed for it while the thread still
        # waited for a line for an earlier one, which was withdrawn.
        self._shown = 0
        self._line: str | None = None

    async def ask(self, question: str, *, streams: bool) -> Any:
        """Ask a question; returns the JSON value that the person types, or `Items`.

        Args:
            question: The question.
            streams: Whether the answer may be a stream.

        Raises:
            RpcError: Standard input has ended.
        """
        hint = f"; {STREAM} gives items, one after the other" if streams else ""
        async with self._asking(question) as typed:
            while line := await typed("answer, as JSON: "):
                if streams and line.strip() == STREAM:
                    return Items(None)
                try:
                    return load_json(line)
                except ValueError as error:
                    note(f'that is not JSON ({error}); text has quotes, such as "yes"{hint}')
        raise RpcError(Code.CANCELLED, "nobody answered")

    async def items(self, name: str) -> AsyncIterator[Any]:
        """The items that the person types, up to an empty line or the end of standard input."""
        while (item := await self._item(name)) is not None:
            yield item[0]

    async def _item(self, name: str) -> tuple[Any] | None:
        """One item, so that another question may come between two; None after the last."""
        async with self._asking("") as typed:
            prompt = f"item of {name}, as JSON, or an empty line for the end: "
            while line := (await typed(prompt)).strip():
                try:
                    return (load_json(line),)
                except ValueError as error:
                    note(f'that is not JSON ({error}); text has quotes, such as "yes"')
        return None

    @asynccontextmanager
    async def _asking(self, question: str) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
        """Take the terminal for a question; gives the function that reads a line."""

        async def typed(prompt: str) -> str:
            typer.echo(prompt, err=True, nl=False)
            line = await self._worker.run(self._read, number)
            if not line:
                typer.echo(err=True)
            return line

        async with self._turn:
            self._shown += 1
            self._line = None
            number = self._shown
            if question:
                note(question)
            try:
                yield typed
            except anyio.get_cancelled_exc_class():
                self._shown += 1
                typer.echo(err=True)
                note("the question is withdrawn")
                raise

    def _read(self, number: int) -> str:
        line, self._line = self._line, None
        if line is None:
            line = sys.stdin.readline()
        if number != self._shown:
            # The earlier question was withdrawn; the line answers the present one, if there is one.
            self._line = line
        return line


class Answers(Observer):
    """The answers to calls of the server: calls of methods here, and of callbacks.

    Args:
        given: Values by `Controller.method`, or by a callback's parameter.
        terminal: The terminal to ask for others; None if there is none.
    """

    def __init__(self, given: Mapping[str, Any], terminal: Terminal | None) -> None:
        self.given = given
        self._terminal = terminal

    def keep_terminal(self) -> None:
        """Do not ask at the terminal, since standard input has another use."""
        self._terminal = None

    def call_started(self, call: ObservedCall) -> None:
        # For a call of the server this runs in the context of its handler.
        if call.direction == "inbound":
            _kind.set(call.kind)

    def entries(self, own: Mapping[str, MethodEntry]) -> Mapping[str, MethodEntry]:
        """The methods that the server may call.

        They are `own`, and those of all other names, which are shown and answered.
        """
        return _Entries(own, self._make_entry, self.given)

    def callback(self, name: str, param: Param) -> Callable[..., Awaitable[Any]]:
        """The function for a callback: it shows its calls, and answers them."""
        optional = type_text(param.result) in ("null", "any")
        if isinstance(self.given.get(name), Items):
            raise Failure(f"{name!r} is a callback, and gives one value: --answer '{name}=JSON'")

        async def called(*values: Any) -> Any:
            shown = shortened(", ".join(map(to_json, values)), WIDTH)
            unanswered = RpcError(Code.FAILED_PRECONDITION, f"nobody is there to answer {name}")
            return await self._answer(name, f"{name}: {shown}", None if optional else unanswered)

        return called

    def _make_entry(self, name: str) -> MethodEntry:
        controller, _, method = name.rpartition(".")
        anything = Adapter(Any, where=name)

        async def answer(arguments: Any, spec: MethodSpec) -> Any:
            shown = shortened(to_json(arguments), WIDTH)
            wanted = _kind.get() != "notify"
            unanswered = RpcError(Code.UNIMPLEMENTED, f"there is no method {name!r} here")
            found = await self._answer(
                name, f"{name} {shown}", unanswered if wanted else None, streams=wanted
            )
            if not isinstance(found, Items):
                return found
            if not wanted:
                return None
            # The kind of the method is that of the answer.
            spec.kind = "stream"
            if found.values is not None:
                return stream_of(found.values)
            assert self._terminal is not None
            return self._terminal.items(name)

        spec = MethodSpec(
            method,
            controller,
            answer,
            binding="static",
            options=MethodOptions(),
            flavor="coroutine",
            params=(),
            positional=(),
            positional_only={},
            result=anything,
            item=None,
            final=None,
        )
        spec.item = anything
        # Arguments of any names are taken, since the method is unknown here.
        spec.load_args = lambda data, codec: {
            "arguments": anything.load(data, codec),
            "spec": spec,
        }
        exposed = Exposed(Interface(controller, {method: spec}, Docs(), object), instance=self)
        return MethodEntry(exposed, spec, ())

    async def _answer(
        self, name: str, question: str, unanswered: RpcError[Any] | None, *, streams: bool = False
    ) -> Any:
        """The value for a call, or `Items`.

        Args:
            name: The name under which an answer is given.
            question: The call, for people.
            unanswered: Raised where there is no answer; None where none is needed.
            streams: Whether the answer may be a stream.
        """
        if name in self.given:
            given = self.given[name]
            shown = f"items {to_json(given.values)}" if isinstance(given, Items) else to_json(given)
            note(f"{question} -> {shown}")
            return given
        if unanswered is None:
            note(question)
            return None
        if self._terminal is None:
            stream = f" ('{name[:WIDTH]}[]=JSON' if it streams)" if streams else ""
            note(
                f"{question}: answer it by --answer '{name[:WIDTH]}=JSON'{stream}, or at a terminal"
            )
            raise unanswered
        return await self._terminal.ask(question, streams=streams)


class _Entries(Mapping[str, MethodEntry]):
    """Methods that exist, and all others; those of reserved controllers are the protocol's."""

    def __init__(
        self,
        own: Mapping[str, MethodEntry],
        make: Callable[[str], MethodEntry],
        named: Iterable[str],
    ) -> None:
        self._own = own
        self._make = make
        self._named = dict.fromkeys((*own, *named))

    def __getitem__(self, name: str) -> MethodEntry:
        found = self._own.get(name)
        if found is not None:
            return found
        if "." not in name or name.startswith(f"{RESERVED}."):
            raise KeyError(name)
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._named)

    def __len__(self) -> int:
        return len(self._named)

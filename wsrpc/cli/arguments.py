"""Arguments of a call as people type them: `name=text`, `name:=JSON`, `name@file`, `name:=-`."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..stream import stream_of
from .failures import Failure, did_you_mean
from .remote_contract import Method, Param
from .stdin import load_json

__all__ = ["Argument", "bind", "hints", "parse"]

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument as it was typed.

    Attributes:
        name: The parameter.
        text: The text after the sign.
        is_json: Whether there was a colon before the sign.
        is_file: Whether the sign was `@`, so that the text names a file.
    """

    name: str
    text: str
    is_json: bool
    is_file: bool = False

    def __str__(self) -> str:
        return f"{self.name}{':' * self.is_json}{'@' if self.is_file else '='}{self.text}"

    @property
    def is_stdin(self) -> bool:
        """Whether it may mean standard input."""
        return self.text == STDIN and not self.is_file

    @property
    def path(self) -> Path:
        """The file that the text names."""
        return Path(self.text).expanduser()

    def value(self, schema: Any = True) -> Any:
        """The value that travels.

        Args:
            schema: The server's JSON Schema of the parameter.

        Raises:
            Failure: The text should be JSON and is not, or the file cannot be read or is no text.
        """
        if self.is_file:
            return self._content(schema)
        if self.is_json:
            return self._loaded(self.text)
        return _from_base64(self.text) if _takes(schema) == {"bytes"} else self.text

    def _content(self, schema: Any) -> Any:
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise Failure(f"{self}: {error.strerror or error}") from None
        taken = _takes(schema)
        if taken == {"bytes"} and not self.is_json:
            return data
        try:
            text = data.decode()
        except UnicodeDecodeError:
            # Without a schema, a file that is no text is taken as bytes.
            if not self.is_json and (not taken or "bytes" in taken):
                return data
            raise Failure(f"{self}: the file is no text in UTF-8") from None
        return self._loaded(text) if self.is_json else text

    def _loaded(self, text: str) -> Any:
        try:
            return load_json(text)
        except ValueError as error:
            if self.is_file:
                hint = f"; {self.name}@{self.text} takes it as text"
                raise Failure(f"{self}: the file is not JSON ({error}){hint}") from None
            raise Failure(
                f"{self} is not JSON ({error}); for text write {self.name}={self.text}"
            ) from None


def parse(words: Iterable[str]) -> dict[str, Argument]:
    """The arguments by name.

    Raises:
        Failure: A word is no argument, or a name comes twice.
    """
    found: dict[str, Argument] = {}
    for word in words:
        sign = min("=@", key=lambda one: word.find(one) % (len(word) + 1))
        name, found_sign, text = word.partition(sign)
        is_json = name.endswith(":")
        name = name.removesuffix(":")
        if not found_sign or not name:
            raise Failure(f"{word!r} is no argument; write name=text, name:=JSON or name@file")
        if name in found:
            raise Failure(f"argument {name!r} is given twice")
        found[name] = argument = Argument(name, text, is_json, sign == "@")
        if argument.is_file:
            _expect_file(argument)
    return found


def _expect_file(argument: Argument) -> None:
    try:
        with argument.path.open("rb"):
            return
    except OSError as error:
        raise Failure(f"{argument}: {error.strerror or error}") from None


def _takes(schema: Any) -> set[str]:
    """The words for what a schema takes besides null: "bytes", or a JSON type; empty for anything."""
    if not isinstance(schema, Mapping):
        return set()
    for word in ("anyOf", "oneOf"):
        choices = schema.get(word)
        if isinstance(choices, list):
            found = [_takes(one) for one in choices]
            return set().union(*found) - {"null"} if all(found) else set()
    if schema.get("contentEncoding"):
        return {"bytes"}
    kind = schema.get("type")
    if isinstance(kind, list):
        return set(map(str, kind))
    return {str(kind)} if kind else set()


def _from_base64(text: str) -> bytes | str:
    """Bytes from their form in JSON; the server refuses other text."""
    try:
        data = text.encode("ascii")
        return b64decode(data + b"=" * (-len(data) % 4), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return text


Stdin = Callable[[], AsyncIterator[Any]]
FileItems = Callable[[Path, bool], AsyncIterator[Any]]
CallbackFor = Callable[[str, Param], Callable[..., Any]]


def bind(
    path: str,
    given: Mapping[str, Argument],
    method: Method | None,
    stdin: Stdin,
    items_of: FileItems,
    callback: CallbackFor,
) -> dict[str, Any]:
    """The arguments of the call, checked against the server's contract.

    Args:
        path: The method, for messages.
        given: The arguments as they were typed.
        method: The method in the server's contract; None where there is none.
        stdin: Opens standard input as a stream of items.
        items_of: Opens a file as a stream of items, which are bytes where the flag says so.
        callback: Makes the function for a parameter that takes one.

    Raises:
        Failure: An argument is unknown, missing, or of the wrong kind.
    """
    if method is None:
        return _untyped(given, stdin)
    _refuse_unknown(path, given, method)
    source = _fed_by_stdin(path, given, method)
    bound: dict[str, Any] = {}
    for name, param in method.params.items():
        argument = given.get(name)
        if name == source:
            bound[name] = stdin()
        elif param.kind == "callback":
            if argument is not None:
                raise Failure(
                    f"{name!r} is a callback: leave it out, and its calls are shown on stderr; "
                    f"--answer '{name}=JSON' answers them"
                )
            bound[name] = callback(name, param)
        elif argument is not None and param.kind == "upload":
            bound[name] = _upload(argument, param, items_of)
        elif argument is not None:
            bound[name] = argument.value(param.json_schema)
    _refuse_missing(path, bound, method)
    return bound


def hints(given: Mapping[str, Argument], method: Method | None, errors: Sequence[Any]) -> list[str]:
    """The correct form of arguments that were typed as text and refused.

    Args:
        given: The arguments as they were typed.
        method: The method in the server's contract.
        errors: The `errors` of an `invalid_argument`.
    """
    if method is None:
        return []
    found: dict[str, str] = {}
    for error in errors:
        loc = error.get("loc") if isinstance(error, dict) else None
        name = loc[0] if isinstance(loc, list) and loc else None
        argument = given.get(name) if isinstance(name, str) else None
        if argument is not None and not argument.is_json and argument.name in method.params:
            found[argument.name] = (
                f"{argument} is text; {argument.name}:{'@' if argument.is_file else '='}… takes JSON"
            )
    return list(found.values())


def _untyped(given: Mapping[str, Argument], stdin: Stdin) -> dict[str, Any]:
    if sum(argument.is_stdin for argument in given.values()) > 1:
        raise Failure("standard input can feed only one argument")
    return {
        name: stdin() if argument.is_stdin else argument.value() for name, argument in given.items()
    }


def _refuse_unknown(path: str, given: Mapping[str, Argument], method: Method) -> None:
    for name in given:
        if name not in method.params:
            hint = did_you_mean(name, method.params) if method.params else "; it takes none"
            raise Failure(f"{path} has no argument {name!r}{hint}")


def _refuse_missing(path: str, bound: Mapping[str, Any], method: Method) -> None:
    missing = [
        name for name, param in method.params.items() if param.required and name not in bound
    ]
    if missing:
        write = " ".join(_as_typed(name, method.params[name]) for name in missing)
        raise Failure(f"{path} needs {' and '.join(map(repr, missing))}: add {write}")


def _as_typed(name: str, param: Param) -> str:
    if param.kind == "upload":
        return f"{name}:=-"
    schema = param.json_schema
    is_text = isinstance(schema, dict) and schema.get("type") == "string"
    return f"{name}=…" if is_text else f"{name}:=…"


def _fed_by_stdin(path: str, given: Mapping[str, Argument], method: Method) -> str | None:
    """The upload that standard input feeds: the named one, or the only one if it is required."""
    uploads = method.uploads
    named = [name for name in uploads if name in given and given[name].is_stdin]
    if len(named) > 1:
        raise Failure("standard input can feed only one argument")
    if named:
        return named[0]
    if len(uploads) == 1 and uploads[0] not in given and method.params[uploads[0]].required:
        return uploads[0]
    return None


def _upload(argument: Argument, param: Param, items_of: FileItems) -> AsyncIterator[Any]:
    if argument.is_file:
        return items_of(argument.path, _takes(param.json_schema) == {"bytes"})
    value = argument.value()
    if not isinstance(value, list):
        raise Failure(
            f"{argument.name!r} is a stream: write {argument.name}:=- for standard input, or "
            f"{argument.name}:=[…] for a few items"
        )
    return stream_of(value)

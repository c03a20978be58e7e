"""Arguments of a call as people type them: `name=text`, `name:=JSON`, `name:=-` for stdin."""

from __future__ import annotations

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
        is_json: Whether the sign was `:=`.
    """

    name: str
    text: str
    is_json: bool

    @property
    def is_stdin(self) -> bool:
        """Whether it may mean standard input."""
        return self.text == STDIN

    def value(self) -> Any:
        """What travels.

        Raises:
            Failure: It should be JSON and is not.
        """
        if not self.is_json:
            return self.text
        try:
            return load_json(self.text)
        except ValueError as error:
            raise Failure(
                f"{self.name}:={self.text} is not JSON ({error}); for text write "
                f"{self.name}={self.text}"
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
        if sign == "@":
            text = _text_of(name, text)
        if name in found:
            raise Failure(f"argument {name!r} is given twice")
        found[name] = Argument(name, text, is_json)
    return found


def _text_of(name: str, file: str) -> str:
    """What a file holds that is given as `name@file`."""
    try:
        return Path(file).expanduser().read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise Failure(f"{name}@{file}: the file is no text in UTF-8") from None
    except OSError as error:
        raise Failure(f"{name}@{file}: {error.strerror or error}") from None


Stdin = Callable[[], AsyncIterator[Any]]
CallbackFor = Callable[[str], Callable[..., Any]]


def bind(
    path: str,
    given: Mapping[str, Argument],
    method: Method | None,
    stdin: Stdin,
    callback: CallbackFor,
) -> dict[str, Any]:
    """The arguments of the call, checked against what the server says of its method.

    Args:
        path: The method, for messages.
        given: The arguments as they were typed.
        method: What the server says; None where it says nothing.
        stdin: Opens standard input as a stream of items.
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
                    f"{name!r} is a callback; its calls are shown on stderr, leave it out"
                )
            bound[name] = callback(name)
        elif argument is not None:
            bound[name] = _upload(argument) if param.kind == "upload" else argument.value()
    _refuse_missing(path, bound, method)
    return bound


def hints(given: Mapping[str, Argument], method: Method | None, errors: Sequence[Any]) -> list[str]:
    """What to write instead, for arguments that were refused and were typed as text.

    Args:
        given: The arguments as they were typed.
        method: What the server says of its method.
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
                f"{argument.name}={argument.text} is text; {argument.name}:=… takes JSON"
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
    """The upload that standard input feeds: the one named, or the only one if it must be there."""
    uploads = method.uploads
    named = [name for name in uploads if name in given and given[name].is_stdin]
    if len(named) > 1:
        raise Failure("standard input can feed only one argument")
    if named:
        return named[0]
    if len(uploads) == 1 and uploads[0] not in given and method.params[uploads[0]].required:
        return uploads[0]
    return None


def _upload(argument: Argument) -> AsyncIterator[Any]:
    value = argument.value()
    if not isinstance(value, list):
        raise Failure(
            f"{argument.name!r} is a stream: write {argument.name}:=- for standard input, or "
            f"{argument.name}:=[…] for a few items"
        )
    return stream_of(value)

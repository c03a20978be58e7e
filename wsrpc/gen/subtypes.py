"""Compares JSON Schemas: whether one takes every value of another.

The answer errs on the side of no: a comparison that cannot be made is a problem. `required` of a
property with a default does not count for readers, since the default takes its place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

__all__ = ["MAX_DEPTH", "MOST", "problems", "resolved", "said"]

Schema: TypeAlias = Mapping[str, Any]

# Problems that are listed for one type; a wholly different model need not list all of its fields.
MOST = 8

# Deeper than any type is written; a hostile contract ends here.
MAX_DEPTH = 64

_LOWER = (
    ("minimum", "at least {}"), ("exclusiveMinimum", "more than {}"),
    ("minLength", "at least {} characters"), ("minItems", "at least {} items"),
    ("minProperties", "at least {} keys"),
)  # fmt: skip
_UPPER = (
    ("maximum", "at most {}"), ("exclusiveMaximum", "less than {}"),
    ("maxLength", "at most {} characters"), ("maxItems", "at most {} items"),
    ("maxProperties", "at most {} keys"),
)  # fmt: skip


def problems(reader: Any, writer: Any) -> list[str]:
    """Descriptions of written values that the reader may not take; empty if there are none.

    Args:
        reader: The schema of the receiving end.
        writer: The schema of the sending end.
    """
    return list(_Comparison(reader, writer).run())[:MOST]


def resolved(root: Any, schema: Any) -> tuple[Any, str]:
    """A schema with its reference followed, and the reference's name.

    Args:
        root: The schema that has the definitions.
        schema: The schema, a part of it.
    """
    name = ""
    for _ in range(MAX_DEPTH):
        if not isinstance(schema, Mapping):
            return schema, name
        if isinstance(schema.get("allOf"), list) and len(schema["allOf"]) == 1:
            schema = {**schema["allOf"][0], **_without(schema, "allOf")}
        elif "$ref" in schema:
            name = str(schema["$ref"])
            if name == "#":
                schema = root
            else:
                definitions = root.get("$defs", {}) if isinstance(root, Mapping) else {}
                schema = definitions.get(name.rpartition("/")[2], False)
        else:
            return schema, name
    return False, name


class _Comparison:
    def __init__(self, reader: Any, writer: Any) -> None:
        self._reader = reader
        self._writer = writer
        self._under_way: set[tuple[str, str]] = set()

    def run(self) -> Iterator[str]:
        yield from self._compare(self._reader, self._writer, "", 0)

    def _compare(self, reader: Any, writer: Any, at: str, depth: int) -> Iterator[str]:
        reader, read_name = resolved(self._reader, reader)
        writer, written_name = resolved(self._writer, writer)
        if writer is False or _is_any(reader):
            return
        if depth > MAX_DEPTH:
            yield said(at, "is nested too deeply to compare")
            return
        if read_name and written_name:
            pair = (read_name, written_name)
            if pair in self._under_way:
                return
            self._under_way.add(pair)
        if reader is False:
            yield said(at, "takes nothing any more")
            return
        if _is_any(writer):
            yield said(at, f"may be anything where {_name(reader)} is expected")
            return
        if not isinstance(reader, Mapping) or not isinstance(writer, Mapping):
            yield said(at, "cannot be compared")
            return
        yield from self._choices(reader, writer, at, depth)

    def _choices(self, reader: Schema, writer: Schema, at: str, depth: int) -> Iterator[str]:
        written = _members(writer)
        if len(written) > 1:
            for one in written:
                yield from self._compare(reader, one, at, depth + 1)
            return
        read = _members(reader)
        if len(read) > 1:
            if not any(not list(self._compare_alone(one, writer, depth + 1)) for one in read):
                yield said(at, f"may be {_name(writer)}, which {_name(reader)} does not take")
            return
        yield from self._one(
            read[0] if read else reader, written[0] if written else writer, at, depth
        )

    def _compare_alone(self, reader: Any, writer: Any, depth: int) -> Iterator[str]:
        """A comparison whose failure has no effect on later ones."""
        before = set(self._under_way)
        found = list(self._compare(reader, writer, "", depth))
        if found:
            self._under_way = before
        yield from found

    def _one(self, reader: Any, writer: Any, at: str, depth: int) -> Iterator[str]:
        reader, _ = resolved(self._reader, reader)
        writer, _ = resolved(self._writer, writer)
        if len(_members(reader)) > 1 or len(_members(writer)) > 1:
            yield from self._choices(reader, writer, at, depth)
            return
        if "allOf" in reader or "allOf" in writer or "not" in reader or "not" in writer:
            if _plain(reader) != _plain(writer):
                yield said(at, "cannot be compared")
            return
        values = _values(writer)
        if values is not None:
            for value in values:
                if not _takes(reader, value):
                    yield said(at, f"may be {_json(value)}, which {_name(reader)} does not take")
            return
        if _values(reader) is not None:
            yield said(at, f"may be {_name(writer)} where {_name(reader)} is expected")
            return
        read, written = reader.get("type"), writer.get("type")
        if read is not None and read != written and (read, written) != ("number", "integer"):
            yield said(at, f"may be {_name(writer)} where {_name(reader)} is expected")
            return
        yield from _bounds(reader, writer, at)
        if written == "string":
            yield from _strings(reader, writer, at)
        elif written == "array":
            yield from self._arrays(reader, writer, at, depth)
        elif written == "object":
            yield from self._objects(reader, writer, at, depth)

    def _arrays(self, reader: Schema, writer: Schema, at: str, depth: int) -> Iterator[str]:
        if reader.get("uniqueItems") and not writer.get("uniqueItems"):
            yield said(at, "is a set, in which equal items are one")
        read, written = reader.get("prefixItems", []), writer.get("prefixItems", [])
        rest_read = reader.get("items", True)
        rest_written = writer.get("items", not written)
        for number, one in enumerate(written):
            other = read[number] if number < len(read) else rest_read
            yield from self._compare(other, one, f"{at}[{number}]", depth + 1)
        for number in range(len(written), len(read)):
            yield from self._compare(read[number], rest_written, f"{at}[{number}]", depth + 1)
        yield from self._compare(rest_read, rest_written, f"{at}[]", depth + 1)

    def _objects(self, reader: Schema, writer: Schema, at: str, depth: int) -> Iterator[str]:
        read, written = reader.get("properties", {}), writer.get("properties", {})
        rest_read = reader.get("additionalProperties", True)
        # A model does not write properties that it does not list.
        rest_written = writer.get("additionalProperties", not written)
        for name, one in written.items():
            inside = f"{at}.{name}" if at else name
            if name in read:
                yield from self._compare(read[name], one, inside, depth + 1)
            elif rest_read is False:
                yield said(inside, "is not taken any more")
            else:
                yield from self._compare(rest_read, one, inside, depth + 1)
        needed = set(writer.get("required", ()))
        for name in reader.get("required", ()):
            own = read.get(name, {})
            if name not in needed and not (isinstance(own, Mapping) and "default" in own):
                inside = f"{at}.{name}" if at else name
                yield said(inside, "is required, and may be left out" if name in written
                            else "is required, and is not there")  # fmt: skip
        if rest_written is not False:
            yield from self._compare(rest_read, rest_written, f"{at}{{}}", depth + 1)
            for name, one in read.items():
                if name not in written:
                    yield from self._compare(one, rest_written, f"{at}.{name}", depth + 1)
        if "propertyNames" in reader and reader["propertyNames"] != writer.get("propertyNames"):
            keys = {"type": "string", **reader["propertyNames"]}
            others: list[Any] = [{"const": name} for name in written]
            if rest_written is not False:
                others.append({"type": "string", **writer.get("propertyNames", {})})
            for one in others:
                yield from self._compare(keys, one, f"{at}: its keys", depth + 1)
        if reader.get("patternProperties") and _plain(reader) != _plain(writer):
            yield said(at, "has keys by a pattern, which cannot be compared")


def _without(schema: Schema, word: str) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != word}


# Words of a schema that do not restrict its values.
_SILENT = frozenset(
    {
        "$defs", "contentEncoding", "default", "deprecated", "description", "discriminator",
        "examples", "readOnly", "title", "writeOnly", "x-type",
    }
)  # fmt: skip


def _plain(schema: Any) -> Any:
    if isinstance(schema, Mapping):
        return {key: _plain(value) for key, value in schema.items() if key not in _SILENT}
    return [_plain(one) for one in schema] if isinstance(schema, list) else schema


def _is_any(schema: Any) -> bool:
    return schema is True or (isinstance(schema, Mapping) and not schema.keys() - _SILENT)


def _members(schema: Any) -> list[Any]:
    """The choices of a union."""
    if not isinstance(schema, Mapping):
        return [schema]
    for word in ("anyOf", "oneOf"):
        if isinstance(schema.get(word), list):
            return list(schema[word])
    if isinstance(schema.get("type"), list):
        return [{**schema, "type": one} for one in schema["type"]]
    return [schema]


def _values(schema: Schema) -> list[Any] | None:
    """The values of an enum or constant."""
    if "const" in schema:
        return [schema["const"]]
    values = schema.get("enum")
    return list(values) if isinstance(values, list) else None


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _same(one: Any, other: Any) -> bool:
    return _json(one) == _json(other) and type(one) is type(other)


_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}


def _takes(reader: Schema, value: Any) -> bool:
    """Whether a schema that is no union takes one value."""
    values = _values(reader)
    if values is not None:
        return any(_same(one, value) for one in values)
    wanted = reader.get("type")
    if wanted is not None and (
        isinstance(value, bool) != (wanted == "boolean")
        or not isinstance(value, _TYPES.get(wanted, ()))
    ):
        return False
    if isinstance(value, (list, dict)):
        # Constants of this kind are rare, and are not compared.
        return False
    if isinstance(value, str):
        if reader.get("format") or not (
            reader.get("minLength", 0) <= len(value) <= reader.get("maxLength", len(value))
        ):
            return False
        pattern = reader.get("pattern")
        return pattern is None or _matches(pattern, value)
    if isinstance(value, (int, float)):
        return bool(
            reader.get("minimum", value) <= value <= reader.get("maximum", value)
            and reader.get("exclusiveMinimum", value - 1) < value
            and value < reader.get("exclusiveMaximum", value + 1)
            and "multipleOf" not in reader
        )
    return True


def _matches(pattern: Any, value: str) -> bool:
    # A foreign pattern may take for ever; only the simplest patterns are tried.
    if not isinstance(pattern, str) or not re.fullmatch(r"\^?[\w \-]*\$?", pattern):
        return False
    return re.search(pattern, value) is not None


def _bounds(reader: Schema, writer: Schema, at: str) -> Iterator[str]:
    for word, words in (*_LOWER, *_UPPER):
        if word not in reader:
            continue
        bound, own = reader[word], writer.get(word)
        low = (word, words) in _LOWER
        if own is None or (own < bound if low else own > bound):
            yield said(at, f"must be {words.format(bound)}")
    if "multipleOf" in reader and reader["multipleOf"] != writer.get("multipleOf"):
        yield said(at, f"must be a multiple of {reader['multipleOf']}")


def _strings(reader: Schema, writer: Schema, at: str) -> Iterator[str]:
    form, own = reader.get("format"), writer.get("format")
    bytes_now = "base64url" in (form, own)
    if form != own and (form is not None or bytes_now):
        # MessagePack has a type for bytes, so there a string is no value for bytes, and bytes are
        # none for a string.
        yield said(at, f"may be {_name(writer)} where {_name(reader)} is expected")
    pattern = reader.get("pattern")
    if pattern is not None and pattern != writer.get("pattern"):
        yield said(at, f"must match {_json(pattern)}")


def _name(schema: Any) -> str:
    """A type in a few words."""
    if not isinstance(schema, Mapping):
        return "anything" if schema is True else "nothing"
    values = _values(schema)
    if values is not None:
        return str(schema.get("title") or " or ".join(map(_json, values[:4])))
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    members = _members(schema)
    if len(members) > 1:
        return " or ".join(dict.fromkeys(_name(one) for one in members[:4]))
    if schema.get("type") == "object" and schema.get("title"):
        return str(schema["title"])
    form = schema.get("format")
    kind = str(schema.get("type", "anything"))
    return f"{kind} ({form})" if form else kind


def said(at: str, problem: str) -> str:
    """A sentence about a place in a schema; "" is the whole of it."""
    return f"{at} {problem}" if at else problem

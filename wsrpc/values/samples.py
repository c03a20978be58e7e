"""Sample values in JSON's types, on which a type's functions are tried."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .pydantic_schema import FIELD_SETS, Schema, is_schema
from .shapes import FORMATS, choices_of

__all__ = ["MAX_SAMPLES", "Samples"]

# The number of values of each choice of a union.
MAX_SAMPLES = 12

_SAMPLES: dict[str, list[Any]] = {
    "any": ["a", 1],
    "bool": [True, False],
    "bytes": ["YWI=", ""],
    "complex": ["1+2j"],
    "date": ["2020-01-02"],
    "datetime": ["2020-01-02T03:04:05Z", "2020-01-02T00:00:00"],
    "decimal": ["1.10", "7"],
    "float": [1.5, 2.0, -3.25],
    "fraction": ["1/3"],
    "int": [5, 0, -7, 12],
    "multi-host-url": ["http://a.example/"],
    "none": [None],
    "str": ["a", "Ab c", "5", "", " x ", "a@b.example", "2020-01-02", "true"],
    "time": ["01:02:03"],
    "timedelta": ["PT5S", "P1D"],
    "url": ["http://a.example/b"],
    "uuid": ["00000000-0000-4000-8000-000000000007"],
}

_ANYTHING: list[Any] = [
    "a", "Ab c", 5, 1.5, True, "5", "2020-01-02", "2020-01-02T03:04:05Z", "01:02:03", "1.2.3.4",
    "::1", "1.2.3.0/24", "a@b.example", "http://a.example/", "1,2", ["a", "b"], [1, 2], {"a": 1}, {},
]  # fmt: skip

assert not FORMATS - _SAMPLES.keys()


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


class Samples:
    """Makes sample values.

    Args:
        definitions: The definitions of the schema by their ref.
    """

    __slots__ = ("_definitions",)

    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self._definitions = definitions

    def of(self, schema: Schema, depth: int) -> list[Any]:
        """Some values in JSON's types that validation may take for the type."""
        kind = schema["type"]
        if depth > 6:
            return []
        if kind in _SAMPLES:
            return list(_SAMPLES[kind])
        if kind in ("literal", "enum"):
            return [one for one in choices_of(schema) if _is_json(one)]
        if kind in ("union", "tagged-union"):
            choices = schema["choices"]
            parts = [
                self.of(one[0] if isinstance(one, tuple) else one, depth + 1)
                for one in (choices.values() if isinstance(choices, dict) else choices)
                if isinstance(one, (dict, tuple))
            ]
            return [sample for part in parts for sample in part[:MAX_SAMPLES]]
        if kind == "definition-ref":
            return self.of(self._definitions[schema["schema_ref"]], depth + 1)
        if kind == "nullable":
            return [*self.of(schema["schema"], depth + 1)[:MAX_SAMPLES], None]
        if kind == "lax-or-strict":
            return self.of(schema["lax_schema"], depth + 1)
        if kind == "json-or-python":
            return self.of(schema["json_schema"], depth + 1)
        if kind == "function-plain":
            return list(_ANYTHING)
        if kind == "chain":
            return self.of(schema["steps"][0], depth + 1)
        if kind in ("list", "set", "frozenset", "deque"):
            items = self.of(schema.get("items_schema", {"type": "any"}), depth + 1)
            return [[], items[:1], items[:2]] if items else [[]]
        if kind == "tuple":
            parts = [self.of(one, depth + 1) for one in schema["items_schema"]]
            return [[part[0] for part in parts], [part[-1] for part in parts]] if all(parts) else []
        if "keys_schema" in schema or kind == "dict":
            keys = self.of(schema.get("keys_schema", {"type": "str"}), depth + 1)
            values = self.of(schema.get("values_schema", {"type": "any"}), depth + 1)
            return [{}, {str(keys[0]): values[0]}] if keys and values else [{}]
        if kind in FIELD_SETS:
            return self._records(schema, depth)
        if is_schema(schema.get("schema")):
            return self.of(schema["schema"], depth + 1)
        return list(_ANYTHING) if "serialization" in schema else []

    def _records(self, schema: Schema, depth: int) -> list[Any]:
        fields = schema.get("fields", {})
        listed = (
            list(fields.items())
            if isinstance(fields, dict)
            else [(field["name"], field) for field in fields]
        )
        if schema["type"] == "arguments":
            return []
        records: list[Any] = []
        for turn in range(3):
            record: dict[str, Any] = {}
            for place, (name, field) in enumerate(listed):
                if field.get("init") is False:
                    continue
                samples = self.of(field["schema"], depth + 1)
                if not samples:
                    if field.get("required", True) and field["schema"]["type"] != "default":
                        return []
                    continue
                if turn == 2 and field["schema"]["type"] == "default":
                    continue
                alias = field.get("validation_alias", name)
                record[alias if isinstance(alias, str) else name] = samples[
                    (place + turn) % len(samples)
                ]
            records.append(record)
        return records

"""Settings of the commands in `pyproject.toml`: `[tool.wsrpc] app = "module:object"`."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from .failures import Failure

__all__ = ["named_app"]

NOTHING_NAMED = (
    "name the server as module:object, or name it once in pyproject.toml: "
    '[tool.wsrpc] app = "module:object"'
)


def named_app(what: str) -> str:
    """The typed name, or the app in the pyproject.toml of this folder or one above it.

    Raises:
        Failure: Neither names an app, or the file cannot be read.
    """
    if what:
        return what
    here = Path.cwd()
    file = next(
        (at for at in (one / "pyproject.toml" for one in (here, *here.parents)) if at.is_file()),
        None,
    )
    if file is None:
        raise Failure(NOTHING_NAMED)
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("wsrpc", {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Failure(f"{file} cannot be read: {error}") from None
    app = table.get("app") if isinstance(table, dict) else None
    if app is None:
        raise Failure(f"{NOTHING_NAMED} ({file} does not)")
    if not isinstance(app, str):
        raise Failure(f"{file}: app in [tool.wsrpc] is text, 'module:object', not {app!r}")
    # The module lies beside the file, wherever the command runs.
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
    return app

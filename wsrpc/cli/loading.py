"""Loading a server that `module:object` names."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from ..errors import RegistrationError
from ..server.server import Server
from .failures import Failure, did_you_mean

__all__ = ["load_server"]


def load_server(
    spec: str,
    *,
    debug: bool = False,
    origins: Sequence[str] = (),
    trusted_proxies: Sequence[str] = (),
    explorer: bool | None = None,
    metrics: bool = False,
    stats: bool = False,
) -> Server:
    """The server that `module:object` names.

    Args:
        spec: The object is a `Server`, a controller (instance, class or factory), or a list of them.
        debug: Whether a server made here reveals its unexpected errors.
        origins: Further web pages that may connect to a server made here; "*" stands for all.
        trusted_proxies: The proxies whose headers a server made here believes.
        explorer: Whether a server made here serves the explorer; None: the server's default.
        metrics: Whether the server answers `/metrics`.
        stats: Whether a server made here shows its counts to every peer that may connect.

    Raises:
        Failure: The module or the object is not there, or cannot be served.
    """
    found = _load(spec)
    if isinstance(found, Server):
        if origins or trusted_proxies:
            raise Failure(
                f"{spec} is a Server, which says itself who may connect: write "
                "Server(…, origins=[…], trusted_proxies=[…]) there"
            )
        if explorer is False and found.explorer is not False:
            raise Failure(f"{spec} is a Server: write Server(…, explorer=False) there")
        if stats:
            raise Failure(f"{spec} is a Server: write Server(…, stats_for=…) there")
        if metrics:
            try:
                found.serve_metrics()
            except ImportError as error:
                raise Failure(str(error)) from error
        return found
    controllers = list(found) if isinstance(found, (list, tuple)) else [found]
    try:
        return Server(
            controllers,
            debug=debug,
            origins="*" if "*" in origins else origins,
            trusted_proxies=trusted_proxies,
            explorer=explorer,
            metrics=metrics,
            stats_for=_everybody if stats else None,
        )
    except ImportError as error:
        raise Failure(str(error)) from error
    except RegistrationError as error:
        raise Failure(f"{spec} cannot be served: {error}") from error
    except ValueError as error:
        raise Failure(str(error)) from error


def _everybody(principal: object) -> bool:
    """Whether a principal may see a server's counts: any may."""
    return True


def _load(spec: str) -> Any:
    module_name, colon, path = spec.partition(":")
    if not colon or not module_name or not path:
        raise Failure(f"{spec!r} is no module:object; write for instance app:server")
    if module_name.endswith(".py") or "/" in module_name:
        module_name = module_name.removesuffix(".py").replace("/", ".").strip(".")
        raise Failure(f"{spec!r} is no module:object; did you mean {module_name}:{path}?")
    found: Any = _import(module_name)
    walked = module_name
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            hint = did_you_mean(name, _candidates(found)) if hasattr(found, "__dict__") else ""
            raise Failure(f"{walked} has no {name!r}{hint}") from None
        walked = f"{walked}.{name}"
    if inspect.ismodule(found):
        raise Failure(f"{spec} is a module; name a server or a controller in it")
    return found


def _import(name: str) -> Any:
    # As with `python -m`, modules of the working directory can be served.
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _broken(name, error) from error
        raise Failure(f"there is no module {error.name!r} here or on Python's path") from None
    except Exception as error:
        raise _broken(name, error) from error


def _broken(name: str, error: Exception) -> Failure:
    """The error for a module that cannot be imported, with the place of the fault."""
    # The first frame is of this file. A module that Python cannot parse has none, but its error
    # names the place.
    frames = traceback.extract_tb(error.__traceback__)[1:]
    last = next((one for one in reversed(frames) if "importlib" not in one.filename), None)
    where = f" ({last.filename}:{last.lineno})" if last else ""
    return Failure(
        f"importing {name} failed: {type(error).__name__}: {error}{where}; "
        "--debug shows the traceback"
    )


def _candidates(holder: Any) -> list[str]:
    """The names that may have been meant: servers, controllers and lists that are defined there."""
    home = getattr(holder, "__name__", "")
    return [
        name
        for name, value in vars(holder).items()
        if not name.startswith("_")
        and (
            isinstance(value, (Server, list, tuple))
            or (value if inspect.isclass(value) else type(value)).__module__ == home
        )
    ]

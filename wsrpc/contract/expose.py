"""The exposed controllers by name: instances, classes and factories."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, get_origin

from typing_extensions import get_type_hints

from ..errors import RegistrationError
from .controller import RESERVED, Interface, interface

__all__ = ["Exposed", "expose", "expose_all"]


class Exposed:
    """A controller as a server or client offers it.

    Attributes:
        name: Its name on the wire.
        interface: Its methods.
    """

    __slots__ = ("_instance", "_make", "_wants_session", "interface", "name")

    def __init__(
        self,
        interface: Interface,
        *,
        instance: object | None = None,
        make: Callable[..., object] | None = None,
        wants_session: bool = False,
    ) -> None:
        self.name = interface.name
        self.interface = interface
        self._instance = instance
        self._make = make
        self._wants_session = wants_session

    @property
    def per_session(self) -> bool:
        """Whether each session gets an instance of its own."""
        return self._make is not None

    def instance(self, session: object) -> object:
        """The controller that serves `session`; a new one where a class or factory was given.

        The factory gets the session if it has a parameter of that name.
        """
        if self._make is None:
            return self._instance
        return self._make(session=session) if self._wants_session else self._make()

    def __repr__(self) -> str:
        return f"<Exposed {self.name}>"


def expose(controller: Any) -> Exposed:
    """Read a controller: an instance, or a class or factory that makes one for each session.

    Args:
        controller: An instance that serves every session. Or a class, a `functools.partial` of one,
            or a function annotated to return one, which is called once for each session.

    Raises:
        RegistrationError: It is no controller, or cannot be exposed as it is written; its author is
            to blame.
    """
    if isinstance(controller, type) or isinstance(get_origin(controller), type):
        return _per_session(controller, controller)
    if isinstance(controller, functools.partial):
        made = controller.func
        return _per_session(controller, made if isinstance(made, type) else _made_by(made))
    if inspect.isroutine(controller):
        return _per_session(controller, _made_by(controller))
    # A generic class called with its argument leaves the alias on the instance.
    kind = getattr(controller, "__orig_class__", None) or type(controller)
    return Exposed(interface(kind), instance=controller)


def _made_by(factory: Any) -> Any:
    label = getattr(factory, "__qualname__", repr(factory))
    if inspect.iscoroutinefunction(factory):
        raise RegistrationError(f"{label} is async; a controller factory is a plain function")
    try:
        made = get_type_hints(factory).get("return")
    except NameError as error:
        raise RegistrationError(
            f"{label}: its return annotation names {error.name!r}, which is not there at run time"
        ) from error
    if not isinstance(get_origin(made) or made, type) or made is type(None):
        raise RegistrationError(
            f"{label} is no controller; a factory is annotated with the class that it returns"
        )
    return made


def _per_session(make: Any, cls: Any) -> Exposed:
    described = interface(cls)
    try:
        signature = inspect.signature(make)
    except (TypeError, ValueError):
        return Exposed(described, make=make)
    wants_session = "session" in signature.parameters
    try:
        signature.bind(**({"session": None} if wants_session else {}))
    except TypeError as error:
        raise RegistrationError(
            f"{described.name} is made anew for each session and cannot be: {error}; give an "
            "instance, or a function without parameters that returns one"
        ) from None
    if inspect.isabstract(make) or getattr(make, "_is_protocol", False):
        raise RegistrationError(
            f"{described.name} is an interface; expose a class that implements it"
        )
    return Exposed(described, make=make, wants_session=wants_session)


def expose_all(controllers: Sequence[Any], *, builtin: Sequence[Any] = ()) -> dict[str, Exposed]:
    """Read all controllers of a server or client; returns them by name.

    Args:
        controllers: Instances, classes and factories, as `expose` takes them.
        builtin: Controllers of this package, whose names may be reserved ones.

    Raises:
        RegistrationError: Two controllers have one name, or a name is reserved; the application's
            fault.
    """
    if isinstance(controllers, (str, bytes)) or not isinstance(controllers, Iterable):
        raise RegistrationError(
            f"controllers must be a list of controllers, not {type(controllers).__name__}"
        )
    found: dict[str, Exposed] = {}
    for controller in controllers:
        exposed = expose(controller)
        if exposed.name.startswith(RESERVED):
            raise RegistrationError(
                f"{_class_name(exposed)}: controller names that begin with {RESERVED!r} are "
                f"reserved, and so is {exposed.name!r}; set controller_name"
            )
        _add(found, exposed)
    for controller in builtin:
        _add(found, expose(controller))
    return found


def _add(found: dict[str, Exposed], exposed: Exposed) -> None:
    other = found.get(exposed.name)
    if other is not None:
        raise RegistrationError(
            f"{_class_name(other)} and {_class_name(exposed)} are both called {exposed.name!r}; "
            "set controller_name on one of them"
        )
    found[exposed.name] = exposed


def _class_name(exposed: Exposed) -> str:
    origin = exposed.interface.origin
    cls = get_origin(origin) or origin
    return f"{cls.__module__}.{cls.__qualname__}"

"""The access log: one line for each call, at INFO to the logger `wsrpc.access`."""

from __future__ import annotations

import logging

from ..interfaces import CallEnd, ObservedCall, Observer
from .logs import one_line

__all__ = ["AccessLog"]

logger = logging.getLogger("wsrpc.access")


class AccessLog(Observer):
    """Logs each call when it has ended, and each refused call.

    Give it as `Server(observers=[AccessLog()])` or `connect(observers=[AccessLog()])`. Each call
    makes one line, to the logger `wsrpc.access` at INFO. A record has the attributes `direction`,
    `method`, `kind`, `code`, `duration` (seconds), `not_started`, `error_id`, `call_id`, `session`,
    `principal` (its key) and `peer`. No record has arguments, results or metadata. A method that
    does not exist is "?".
    """

    def call_ended(self, call: ObservedCall, end: CallEnd) -> None:
        self._log(call, end)

    def call_refused(self, call: ObservedCall, end: CallEnd) -> None:
        self._log(call, end)

    def _log(self, call: ObservedCall, end: CallEnd) -> None:
        if not logger.isEnabledFor(logging.INFO):
            return
        method = one_line(call.name) if call.known else "?"
        principal = call.session.principal_key
        fields = {
            "direction": call.direction,
            "method": method,
            "kind": call.kind,
            "code": end.code,
            "duration": end.duration,
            "not_started": end.not_started,
            "error_id": end.error_id,
            "call_id": call.id or None,
            "session": one_line(call.session_id[:64]),
            "principal": None if principal is None else one_line(principal),
            "peer": one_line(call.peer),
        }
        logger.info(
            "%s %s %s %s %s %s %.1fms%s",
            fields["peer"] or "-",
            fields["principal"] or "-",
            call.direction,
            method,
            call.kind,
            end.code,
            end.duration * 1000,
            f" error_id={end.error_id}" if end.error_id else "",
            extra=fields,
        )

"""What a process holds at present."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import types

from typing_extensions import TypedDict

from wsrpc.interfaces import Session

__all__ = ["Usage", "many_files", "usage"]

MIB = 2**20


class Usage(TypedDict):
    """Counts, and MiB of memory."""

    tasks: int
    generators: int
    sessions: int
    descriptors: int
    memory: float


def usage() -> Usage:
    """Of this process, whose event loop is asyncio's."""
    gc.collect()
    alive = gc.get_objects()
    with open("/proc/self/statm", encoding="ascii") as statm:
        pages = int(statm.read().split()[1])
    return {
        "tasks": len(asyncio.all_tasks()),
        "generators": sum(type(one) is types.AsyncGeneratorType for one in alive),
        "sessions": sum(isinstance(one, Session) for one in alive),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "memory": round(pages * os.sysconf("SC_PAGE_SIZE") / MIB, 1),
    }


def many_files() -> None:
    """Let this process, and those that it starts, open as many as the system lets them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

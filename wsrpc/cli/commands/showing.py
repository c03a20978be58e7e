"""`wsrpc demo`, as it is typed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from ..options import Debug
from ..running import run

__all__ = ["demo"]


def demo(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    plain: Annotated[bool, typer.Option("--plain", help="Plain lines, on a terminal too.")] = False,
    svg: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Write a picture of the finished table besides."),
    ] = None,
    cluster: Annotated[
        bool,
        typer.Option(
            "--cluster",
            help="NATS, two nodes and a balancer instead: a node is killed, and nothing is lost.",
        ),
    ] = False,
    debug: Debug = False,
) -> None:
    """Two real processes over one real socket, both ways; exits with 0 when every promise holds."""
    from ..demo.presenter import present

    if cluster:
        from ..demo.cluster import present_cluster

        run(present_cluster, debug=debug)
        return
    run(lambda: present(port, plain=plain, svg=svg), debug=debug)

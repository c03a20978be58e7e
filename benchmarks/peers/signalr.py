"""SignalR: its client in JavaScript on Node, a hub on ASP.NET Core (`dotnet/`) as its server."""

import shutil
from pathlib import Path

from benchmarks.peers.programs import node, script

BUILT = Path(__file__).with_name("dotnet") / "bin" / "Release"


def command(role: str, *address: str) -> list[str]:
    """See `base.Program`."""
    client = [node(), "--expose-gc", script("signalr.mjs", "@microsoft/signalr")]
    dotnet = shutil.which("dotnet")
    if dotnet is None:
        raise ImportError(
            "dotnet is not installed: its server needs the .NET SDK, version 3.1 or later"
        )
    built = sorted(BUILT.glob("net*/Bench.dll"))
    if not built:
        raise ImportError(
            "its server is not built: dotnet build -c Release benchmarks/peers/dotnet"
        )
    return [dotnet, str(built[-1])] if role == "server" else [*client, *address]

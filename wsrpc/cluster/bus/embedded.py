"""A NATS server from a wheel, for the demo, tests and development."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from ..errors import ClusterConfigError

__all__ = ["NatsServer", "nats_server_path"]

# Seconds.
START_TIMEOUT = 10.0


def nats_server_path() -> str | None:
    """The path of `nats-server`, beside this Python or on `PATH`; None where there is none."""
    beside = Path(sys.executable).with_name("nats-server")
    return str(beside) if beside.exists() else shutil.which("nats-server")


class NatsServer:
    """`nats-server` on loopback; `with NatsServer() as server` runs it. It can be started again.

    Args:
        jetstream: Whether it runs JetStream.
        port: The port to listen on; a free one if left out.
        extra: Further arguments.

    Attributes:
        url: The URL to connect to.

    Raises:
        ClusterConfigError: There is no `nats-server` on this machine.
    """

    def __init__(
        self, *, jetstream: bool = True, port: int | None = None, extra: tuple[str, ...] = ()
    ) -> None:
        path = nats_server_path()
        if path is None:
            raise ClusterConfigError(
                "there is no nats-server here: pip install 'wsrpc-anyio[nats-server]'"
            )
        self._path = path
        self._port = port or _free_port()
        self._store = Path(tempfile.mkdtemp(prefix="wsrpc-nats-"))
        self._jetstream = jetstream
        self._extra = extra
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"nats://127.0.0.1:{self._port}"

    def start(self) -> Self:
        """Start the server, and wait until it listens."""
        arguments = [self._path, "-a", "127.0.0.1", "-p", str(self._port), *self._extra]
        arguments += ["--name", f"wsrpc-{secrets.token_hex(4)}"]
        if self._jetstream:
            arguments += ["-js", "-sd", str(self._store)]
        with open(self._store / "log", "ab") as log:
            self._process = subprocess.Popen(  # nosec B603 - arguments of this module's own
                arguments, stdout=log, stderr=log
            )
        end = time.monotonic() + START_TIMEOUT
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self._port), 0.2).close()
            except OSError:
                if self._process.poll() is not None:
                    break
                time.sleep(0.02)
            else:
                return self
        said = (self._store / "log").read_text(errors="replace")[-1000:]
        self.close()
        raise ClusterConfigError(f"nats-server did not start: {said}")

    @property
    def pid(self) -> int | None:
        """The process's id, while it runs."""
        return None if self._process is None else self._process.pid

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Stop the server; the data of JetStream stay until `close`."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait()

    def signal(self, number: int) -> None:
        """Send the server a signal."""
        if self._process is not None:
            os.kill(self._process.pid, number)

    def close(self) -> None:
        """Stop the server, and remove the data that it has stored."""
        self.stop(signal.SIGKILL)
        shutil.rmtree(self._store, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

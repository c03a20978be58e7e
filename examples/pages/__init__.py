"""Serves the pages of examples from a web server of their own, as most applications have one.

The pages import `./server.js`, which has the client that the wsrpc server itself serves, and the
URL of that server. It lets them connect because its `origins` names them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlsplit

__all__ = ["Answer", "Pages"]

SHARED = Path(__file__).parent / "www"

Answer: TypeAlias = Callable[[Mapping[str, str]], Any]
"""Gives the JSON with which a path answers the fields of a query; None means 403."""


class Pages:
    """The files of a folder, over HTTP, on this machine.

    Args:
        folder: Their folder.
        port: The port to serve them on; 0 takes a free one.
        answers: Paths that are no files.

    Attributes:
        url: The URL of the pages.
        wsrpc_url: The URL of the wsrpc server; to be set before a page is asked for.
    """

    def __init__(
        self, folder: Path, port: int = 0, answers: Mapping[str, Answer] | None = None
    ) -> None:
        self.folder = folder
        self.answers = dict(answers or {})
        self.wsrpc_url = ""
        pages = self

        class Handler(_Handler):
            served = pages

        self._http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Serve, in a thread, while the block runs."""
        with self._http:
            thread = Thread(target=self._http.serve_forever)
            thread.start()
            try:
                yield
            finally:
                self._http.shutdown()
                thread.join()


class _Handler(SimpleHTTPRequestHandler):
    served: Pages

    def do_GET(self) -> None:
        path, query = urlsplit(self.path).path, urlsplit(self.path).query
        if path == "/server.js":
            url = self.served.wsrpc_url
            client = url.replace("ws", "http", 1) + "/wsrpc.js"
            self._send(
                "text/javascript", f'export * from "{client}";\nexport const SERVER = "{url}";\n'
            )
        elif path in self.served.answers:
            answer = self.served.answers[path](dict(parse_qsl(query)))
            if answer is None:
                self.send_error(HTTPStatus.FORBIDDEN)
            else:
                self._send("application/json", json.dumps(answer))
        else:
            super().do_GET()

    def translate_path(self, path: str) -> str:
        # No path leads above the folder: the base class has dropped such parts.
        self.directory = str(self.served.folder)
        own = super().translate_path(path)
        if Path(own).exists():
            return own
        self.directory = str(SHARED)
        return super().translate_path(path)

    def _send(self, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: requests for files are no news."""

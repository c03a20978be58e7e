"""Every command that a text names in a sentence, in a table, or in a block that is only read, is run.

Blocks `console` of docs/ are run with their output by `test_pages.py`. What is left is here: a command
begins with one of `PROGRAMS`. It is run by a shell, in a folder that has what the reader's would have,
and has to end well; one that serves or watches says that it does, and ends well upon Ctrl-C. Words that
stand for the reader's own, such as `URL`, become real ones. `SMALLER` has the commands that take
minutes, each with the same in small, and `NOT_RUN` the few that cannot run here, with the reason.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, free_port
from tests.docs.test_commands import INLINE, TEXTS
from wsrpc.cluster.bus.embedded import NatsServer, nats_server_path

PROGRAMS = re.compile(
    r"(?:\S*/)?(?:wsrpc|make|python3?|pip|uvicorn|hypercorn|gunicorn|granian|nats-server|npm|npx|node|dotnet"
    r"|pytest|curl|kill|ulimit|kubectl|nginx|caddy|docker|systemctl|spin|run|py-spy)"
)
FENCE = re.compile(r"^ *```(?P<kind>[\w.-]*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)

# Names of programs and folders, where no command is meant.
NAMES = {"wsrpc", "nats-server", "make", ".venv", "python", "run", "curl", "py-spy"}

# Seconds for one command.
WAIT = 1200.0

# The reader's own application; beside it lie its contract, and the server of the README.
APP = """
import wsrpc
from wsrpc.interop.service import Interop


class Controller:
    @wsrpc.method
    async def method(self, name: str, n: int) -> str:
        return name * n


server = wsrpc.Server([Controller(), Interop()], stats_for=lambda principal: True)
app = server.asgi()
"""

# Commands that a sentence leaves unfinished, as a reader would finish them.
FINISHED = {
    "wsrpc gen": "wsrpc gen ts app:server",
    "wsrpc gen ts": "wsrpc gen ts app:server",
    "wsrpc schema": "wsrpc schema app:server",
    "wsrpc ls": "wsrpc ls URL",
    "wsrpc serve --stats": "wsrpc serve app:Controller --stats",
    "uvicorn --workers 4": "uvicorn app:app --workers 4",
}

# Commands that take minutes, and the same work in small.
SMALLER = {
    "make fuzz": "python -m tests.fuzz --mutations 300 --live 20",
    "make soak": "python -m tests.simulator --seeds 3",
    "make bench": "python -m benchmarks --quick --only wsrpc --work sequential --repetitions 1",
    "python -m benchmarks": "python -m benchmarks --only wsrpc --work sequential --repetitions 1",
    "python -m benchmarks --quick": "python -m benchmarks --quick --only wsrpc --work sequential",
    "python -m benchmarks --repetitions 5 --only raw,wsrpc,wsrpc_compiled,wsrpc_picows,raw_uvloop,"
    "wsrpc_uvloop,wsrpc_uvloop_compiled --work sequential,outstanding,stream,streams,yielding,upload,"
    "idle,open_100,open_10000,calm,busy": "python -m benchmarks --quick --only raw,wsrpc --work upload",
    "python -m benchmarks --repetitions 7 --only raw,wsrpc,wsrpc_compiled --work "
    "sequential,outstanding,stream,streams,upload,yielding": "python -m benchmarks --quick --only raw,wsrpc --work yielding",
    "python -m benchmarks --repetitions 3 --only raw,wsrpc,wsrpc_aiohttp,pyrpckit,meshcall --work "
    "sequential,outstanding,stream": "python -m benchmarks --quick --only raw,wsrpc --work stream",
    "python -m benchmarks.path --time": "python -m benchmarks.path --time --work sequential",
    "python -m benchmarks.fan_out": "python -m benchmarks.fan_out --sessions 4 --repetitions 1",
    "python -m benchmarks.mounting": "python -m benchmarks.mounting --rounds 1",
    "python -m benchmarks.observing": "python -m benchmarks.observing --rounds 1",
    "python -m benchmarks.clusters": "python -m benchmarks.clusters --rounds 1",
    "python -m benchmarks.path --instructions": "python -m benchmarks.path --work sequential",
}

# Its handler fails by accident, and the log of the server has that.
SHOWS_A_TRACEBACK = {"python examples/errors.py"}

GATE = "it is, or contains, the run of the tests that this one is part of; .ci/run is the gate"
INDEX = "it installs from an index; the test below looks whether the extras are there"

NOT_RUN = {
    ".ci/run": GATE,
    "make test": GATE,
    "make test-all": GATE,
    "make test-rest": GATE,
    "make test-compiled": GATE,
    "make check": GATE,
    "make check test": GATE,
    ".venv/bin/python -m pytest -n auto": GATE,
    "kill -9": "it names a way to end a process; tests/telemetry/test_recording.py ends one so",
    "py-spy record": "it is a program of another project, which needs the rights of a debugger",
    "pip install -e '.[dev,nats-server]'": INDEX,
    ".venv/bin/pip install -e '.[dev]'": INDEX,
    "pip install -e '.[bench,dev]'": INDEX,
    "pip install 'wsrpc-anyio[nats]'": INDEX,
    ".venv/bin/pip install 'wsrpc-anyio[cli,trio]' pytest": INDEX,
    "npm install --no-package-lock --prefix benchmarks/peers/node": "it installs from npm's index",
    "dotnet build -c Release benchmarks/peers/dotnet": "it needs .NET, and its index of packages",
}

# Commands that run until Ctrl-C, by their beginning: what they say once they work.
ENDLESS = {
    "wsrpc serve": "listening ws://",
    "wsrpc dev": "listening ws://",
    "wsrpc top": "sessions ",
    "uvicorn": "Application startup complete",
    "nats-server": "Server is ready",
    "python -m examples.ai_chat --port": "http://",
    "python -m examples.dashboard --port": "http://",
    "python -m examples.cursors": "http://",
    "python -m examples.browser": "http://",
}


def commands_of(path: Path) -> Iterator[str]:
    """The commands of a text that no other test runs."""
    text = path.read_text(encoding="utf-8")
    followed = path.parent.name == "docs"
    for fence in FENCE.finditer(text):
        if fence["kind"] in ("", "sh", "bash") or (fence["kind"] == "console" and not followed):
            for line in fence["text"].splitlines():
                yield line.strip().removeprefix("$ ").partition("  #")[0].strip()
    for line in FENCE.sub("", text).splitlines():
        yield from INLINE.findall(line)


def is_command(text: str) -> bool:
    words = text.split()
    return bool(words) and text not in NAMES and PROGRAMS.fullmatch(words[0]) is not None


COMMANDS = sorted(
    {
        command
        for path in (*TEXTS, ROOT / "protocol.md", ROOT / "benchmarks" / "README.md")
        for command in commands_of(path)
        if is_command(command)
    }
)


def alternatives(command: str) -> list[str]:
    """The command with each of the words that it leaves to choose from: `text|json`."""
    words = command.split(" ")
    most = max(word.count("|") for word in words) + 1
    chosen = [[word.split("|")[n % (word.count("|") + 1)] for word in words] for n in range(most)]
    return [" ".join(words) for words in chosen]


def needs_nats() -> None:
    """Skip the test where there is no NATS server, unless WSRPC_NATS=require."""
    missing = nats_server_path() is None or importlib.util.find_spec("nats") is None
    if missing and os.environ.get("WSRPC_NATS") != "require":
        pytest.skip("there is no nats-server here, or no nats-py")


class Place:
    """A folder of a reader's, and the servers that run for them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._stack = stack
        self._known: dict[str, str] = {}
        self.env = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
            "PYTHONUNBUFFERED": "1",
            "NO_COLOR": "1",
        }
        (folder / "app.py").write_text(APP, encoding="utf-8")
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        server = re.search(r"^```python\n(# server\.py\n.*?)^```$", readme, re.M | re.S)
        assert server is not None
        (folder / "server.py").write_text(server[1], encoding="utf-8")
        for name, module in (
            ("released.json", "server:HelloController"),
            ("old.json", "app:server"),
            ("new.json", "app:server"),
        ):
            done = self.run(f"wsrpc schema {module} > {name}")
            assert done.returncode == 0, done.stdout

    def run(self, command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        with subprocess.Popen(
            ["bash", "-c", command],
            cwd=cwd or self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                said, _ = process.communicate(timeout=WAIT)
            except subprocess.TimeoutExpired:
                # The shell's own children too.
                os.killpg(process.pid, signal.SIGKILL)
                raise
        return subprocess.CompletedProcess(command, process.returncode, said)

    def process(self, command: str, says: str, cwd: Path | None = None) -> Process:
        return Process(command, says, cwd or self.folder, self.env)

    def start(self, command: str, says: str, cwd: Path | None = None) -> Process:
        return self._stack.enter_context(self.process(command, says, cwd))

    def known(self, name: str) -> str:
        """The value of a word that stands for something of the reader's."""
        if name not in self._known:
            if name == "nats":
                needs_nats()
                self._known[name] = self._stack.enter_context(NatsServer()).url
            elif name == "chat":
                port = free_port()
                self.start(f"python -m examples.ai_chat --port {port}", "http://", ROOT)
                self._known[name] = f"http://127.0.0.1:{port}"
            else:
                module = "server:HelloController" if name == "readme" else "app:server"
                serve = f"wsrpc serve {module} --port 0"
                if name == "cluster":
                    serve += f" --cluster {self.known('nats')} --cluster-name prod"
                said = self.start(serve, "listening ws://").text
                found = re.search(r"listening (\S+)", said)
                assert found is not None
                self._known[name] = found[1]
        return self._known[name]

    def real(self, command: str) -> str:
        """A command of a text with real words in it."""
        command = SMALLER.get(command, FINISHED.get(command, command))
        command = re.sub(r"^\.venv/bin/", "", command)
        if command.startswith("wsrpc serve"):
            if not re.match(r"wsrpc serve [\w.]+:\w", command):
                command = command.replace("serve", "serve app:server", 1)
            if command.endswith("--cluster"):
                command += f" {self.known('nats')} --cluster-name other"
            command += " --port 0"
        if command.startswith("wsrpc dev"):
            command += f" --port {free_port()}"
        if command.startswith("wsrpc call ws://127.0.0.1:8765"):
            command = command.replace("ws://127.0.0.1:8765", self.known("readme"))
        if command.startswith("uvicorn"):
            command += f" --port {free_port()}"
        if command == "nats-server -js":
            command += f" -p {free_port()} -sd {self.folder / 'jetstream'}"
        if command == "python -m examples.ai_chat.terminal":
            command = f"printf 'hello\\n' | {command} {self.known('chat')}"
        elif re.fullmatch(r"python -m examples\.(ai_chat|dashboard|cursors|browser)", command):
            command += f" --port {free_port()}"
            if command.startswith("python -m examples.browser"):
                command += f" --wsrpc-port {free_port()}"
        if command.startswith("make "):
            # The environment is there already, and make shall not install it anew.
            markers = ("dev", "all", "bench", "docs", "demo")
            command += "".join(f" -o .venv/.{marker}" for marker in markers)
        if re.match(r"wsrpc (nodes|presence) URL", command):
            command = command.replace("URL", self.known("cluster"))
        if "nats://10.0.0.5:4222" in command:
            command = command.replace("nats://10.0.0.5:4222", self.known("nats"))
        if re.search(r"\bURL\b", command):
            command = re.sub(r"\bURL\b", self.known("url"), command)
        command = command.replace("MODULE:OBJECT", "app:server")
        return command.replace("OLD NEW", "old.json new.json")


class Process:
    """A command that runs until Ctrl-C."""

    def __init__(self, command: str, says: str, cwd: Path, env: dict[str, str]) -> None:
        self._command = command
        self._says = says
        self.text = ""
        self._process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.text += line

    def __enter__(self) -> Process:
        self._reader.start()
        until = time.monotonic() + WAIT
        while self._says not in self.text:
            if self._process.poll() is not None or time.monotonic() > until:
                self.__exit__()
                raise AssertionError(f"{self._command} does not say {self._says!r}:\n{self.text}")
            # Another process is waited for, which tells nobody.
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        """Press Ctrl-C."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGINT)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            raise AssertionError(f"{self._command} does not end:\n{self.text}") from None
        finally:
            self._reader.join()
            assert self._process.stdout is not None
            self._process.stdout.close()

    @property
    def code(self) -> int | None:
        return self._process.returncode


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(tmp_path_factory.mktemp("reader"), stack)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of this tree, for commands that write into theirs."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("this is no checkout: nothing says which files belong to it")
    for name in listed.stdout.splitlines():
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.skipif(sys.platform == "win32", reason="the texts are about shells of Unix")
@pytest.mark.parametrize("command", [one for one in COMMANDS if one not in NOT_RUN])
def test_a_command_that_a_text_names_does_its_work(
    command: str, place: Place, request: pytest.FixtureRequest
) -> None:
    folder: Path | None = None
    if re.search(r"nats-server\b|/cluster_|--cluster", command):
        needs_nats()
    if re.match(
        r"(make|python -m (tests|benchmarks|examples)|python examples/|wsrpc serve examples)",
        command,
    ):
        folder = ROOT
    if command in ("make compiled", "make wheels", "make docs"):
        if command != "make docs" and shutil.which("cc") is None:
            pytest.skip("there is no C compiler here")
        if command == "make docs" and importlib.util.find_spec("pdoc") is None:
            pytest.skip("pdoc is not installed: pip install 'wsrpc-anyio[docs]'")
        folder = request.getfixturevalue("checkout")
    for one in alternatives(command):
        real = place.real(one)
        endless = [says for begin, says in ENDLESS.items() if real.startswith(begin)]
        if endless:
            with place.process(real, endless[0], folder) as process:
                pass
            assert process.code in (0, 130), process.text
            said = process.text
        else:
            done = place.run(real, folder)
            said = done.stdout
            assert done.returncode == 0, f"{real}\n{said}"
        assert "Traceback" not in said or command in SHOWS_A_TRACEBACK, f"{real}\n{said}"
        if command == "make docs":
            assert folder is not None
            assert "Warn" not in said, said
            first = (folder / "build" / "reference" / "wsrpc.html").read_text(encoding="utf-8")
            assert 'href="wsrpc/cluster.html"' in first


def test_each_exception_has_its_command() -> None:
    named = set(COMMANDS)
    assert set(NOT_RUN) <= named, set(NOT_RUN) - named
    assert set(SMALLER) <= named, set(SMALLER) - named
    assert set(FINISHED) <= named, set(FINISHED) - named
    long = re.compile(r"make (fuzz|soak|bench|test)|python -m benchmarks( |$)")
    short = {*SMALLER, *NOT_RUN, *SMALLER.values()}
    assert {one for one in named if long.match(one)} <= short, "SMALLER says what runs instead"


def test_the_extras_that_texts_name_are_there() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    extras = set(project["optional-dependencies"])
    found = 0
    for path in TEXTS:
        for names in re.findall(r"(?:wsrpc-anyio|\.)\[([\w,-]+)\]", path.read_text("utf-8")):
            found += 1
            assert set(names.split(",")) <= extras, f"{path.name}: {names}"
    assert found
    installed = shlex.split("pip install 'wsrpc-anyio[nats]'")[-1]
    assert installed.startswith(project["name"])

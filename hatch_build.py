"""Compiles the core with mypyc: in place by `make compiled`, into a wheel by `make wheels`.

Needs a C compiler. Without it the package is the same, in pure Python.
"""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent

# The name of the shared library of all compiled modules; it lies next to the package, since mypyc
# derives the modules' `__file__` from that.
LIBRARY = "wsrpc"

# All compiled modules are in one library, and nothing outside of it calls their functions. Told so, the
# compiler calls them directly and inlines them: 3 to 6 % of the CPU time of a call.
ONLY_HERE = ["-fvisibility=hidden", "-fno-semantic-interposition"]


def compile_core(modules: list[str], *, to: Path) -> list[Path]:
    """Compile modules; returns the extension modules made of them.

    Args:
        modules: Their files.
        to: The folder for the results, laid out as the repository is.
    """
    from mypyc.build import mypycify
    from setuptools import Distribution

    build = ROOT / "build" / "compiled"
    extensions = mypycify(
        modules, target_dir=str(build), group_name=LIBRARY, opt_level="3", debug_level="0"
    )
    if sys.platform != "win32":
        for extension in extensions:
            extension.extra_compile_args += ONLY_HERE
    command = Distribution({"name": "wsrpc", "ext_modules": extensions}).get_command_obj(
        "build_ext"
    )
    command.build_lib = str(to)
    command.build_temp = str(build / "objects")
    command.ensure_finalized()
    command.run()
    made = [Path(output) for output in command.get_outputs()]
    for extension in made:
        # A module that did not have to be compiled again keeps its old time. The check that no module
        # is older than its source would then complain.
        os.utime(extension)
    return made


def listed() -> list[str]:
    """The modules that pyproject.toml wants compiled."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        tool: Any = tomllib.load(file)["tool"]
    modules: list[str] = tool["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["compiled"]
    return modules


def get_build_hook() -> type[Any]:
    """The hook that hatchling calls when it is enabled; only then hatchling is certainly installed."""
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface

    class CompiledCore(BuildHookInterface):  # type: ignore[type-arg,misc,unused-ignore]
        """Puts the compiled core into the wheel, beside its source."""

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            os.chdir(ROOT)
            if version == "editable":
                compile_core(self.config["compiled"], to=ROOT)
                return
            folder = ROOT / "build" / "wheel"
            for made in compile_core(self.config["compiled"], to=folder):
                build_data["force_include"][str(made)] = str(made.relative_to(folder))
            build_data["pure_python"] = False
            build_data["infer_tag"] = True

    return CompiledCore


if __name__ == "__main__":
    os.chdir(ROOT)
    for made in compile_core(listed(), to=ROOT):
        print(made.relative_to(ROOT))

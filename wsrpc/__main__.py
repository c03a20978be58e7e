"""`python -m wsrpc`, and the `wsrpc` command."""

from __future__ import annotations

import sys

__all__ = ["main"]

MISSING = (
    "wsrpc: the commands need typer and rich, which are not installed: "
    "pip install typer rich (the extra 'cli' of the distribution wsrpc-anyio)"
)


def main() -> int:
    """Run the command line; returns the exit code."""
    try:
        from .cli.app import run_app

        return run_app()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich"):
            raise
        print(MISSING, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

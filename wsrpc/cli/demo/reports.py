"""What the client process tells the presenter, one JSON line each."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

__all__ = ["Report", "State"]

State = Literal["waiting", "running", "holds", "fails"]


class Report(BaseModel):
    """How a step is doing.

    Attributes:
        key: Which step.
        state: Where it stands.
        evidence: What was seen.
        done: Parts done of a step that tells, else 0.
        total: Parts in all.
    """

    key: str
    state: State
    evidence: str = ""
    done: int = 0
    total: int = 0

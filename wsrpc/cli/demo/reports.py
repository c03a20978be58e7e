"""Reports of the client process to the presenter, one JSON line each."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

__all__ = ["Report", "State"]

State = Literal["waiting", "running", "holds", "fails"]


class Report(BaseModel):
    """The state of a step.

    Attributes:
        key: The key of the step.
        state: Its state.
        evidence: The observation.
        done: Parts done, if the step counts them; else 0.
        total: Parts in all.
    """

    key: str
    state: State
    evidence: str = ""
    done: int = 0
    total: int = 0

"""Every fault can still be planted; whether tests see them, `make mutants` shows."""

from __future__ import annotations

import ast
import tempfile
from pathlib import Path

import pytest

from .faults import FAULTS, Fault
from .runner import ROOT, Outcome, place_of, planted, try_fault


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_a_fault_still_has_its_place(fault: Fault) -> None:
    file = place_of(fault, ROOT / "wsrpc")
    ast.parse(planted(fault, file.read_text(encoding="utf-8")))
    assert any(test.startswith("tests/") for test in fault.tests)
    assert all((ROOT / test).exists() for test in fault.tests if test.startswith("tests/"))


def test_faults_have_descriptions_of_their_own() -> None:
    assert len({fault.what for fault in FAULTS}) == len(FAULTS)


@pytest.mark.slow
def test_a_fault_that_a_test_sees_is_told_from_one_that_none_sees() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "wsrpc").mkdir()
        (folder / "wsrpc" / "__init__.py").touch()
        (folder / "wsrpc" / "one.py").write_text("ONE = 1\nTWO = 2\n")
        (folder / "test_one.py").write_text(
            "from wsrpc.one import ONE\n\n\ndef test_one() -> None:\n    assert ONE == 1\n"
        )
        seen = try_fault(Fault("", "one.py", "ONE = 1", "ONE = 3", ("test_one.py",)), folder)
        assert seen.seen
        assert "test_one" in seen.by
        unseen = try_fault(Fault("", "one.py", "TWO = 2", "TWO = 3", ("test_one.py",)), folder)
        assert unseen == Outcome(seen=False, by="")
        assert (folder / "wsrpc" / "one.py").read_text() == "ONE = 1\nTWO = 2\n"

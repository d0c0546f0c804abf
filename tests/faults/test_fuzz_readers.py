"""Ten thousand damaged files of every format: rows or one sentence, never a crash, a hang or an allocation bomb."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"
CASES = 5000


@pytest.mark.slow
@pytest.mark.parametrize("part", [0, 1])
def test_damaged_files_are_read_or_refused(part: int) -> None:
    spec = importlib.util.spec_from_file_location("gsnn_fuzz", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    totals, broken = module.fuzz(CASES, seconds=600, first=part * CASES)
    assert not broken, "\n".join(broken)
    assert sum(totals.values()) == CASES
    assert min(totals.values()) > CASES // 50, f"the damage is too small or too great to test anything: {totals}"

"""Every fault once, over the whole system: nothing is oversold, lost, duplicated or wrongly freed.

Seed and history are in what the run prints; `python -m tests.faults --seed N` repeats it.
"""

import json
import subprocess
import sys

from tests.faults.instances import ROOT
from tests.faults.nemeses import FAULTS

LONGEST_S = 420.0
"""Twice what it takes where two cores are all, and then some: a busy machine is no fault."""


def test_no_invariant_is_broken_whatever_breaks() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.faults", "--short"], cwd=ROOT, capture_output=True, text=True, timeout=LONGEST_S
    )

    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
    figures = json.loads((ROOT / "build" / "faults.json").read_text())
    assert figures["passed"]
    assert [figures["totals"][name] for name in ("oversold", "lost", "duplicated", "wrongly_freed", "other")] == [0] * 5
    assert figures["rolling"]["failed_after_one_retry"] == 0
    rows = {row["fault"]: row for row in figures["faults"]}
    expected = {one.name for one in FAULTS.values() if not (one.soak_only or one.on_demand or one.clocks)}
    assert expected <= rows.keys()
    assert {name for name in expected if not rows[name]["cycles"]} == set()
    assert {name for name in expected if not rows[name]["acknowledged"]} == set()

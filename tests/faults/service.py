"""`python -m tests.faults.service NAME --config FILE`: `python -m services.NAME` that dies where it is told to."""

import os
import runpy
import sys
from pathlib import Path

from tests.faults.points import WANTED, Wanted, wrap_all

if __name__ == "__main__":
    name = sys.argv.pop(1)
    wrap_all(Wanted(Path(os.environ[WANTED])))
    runpy.run_module(f"services.{name}", run_name="__main__", alter_sys=True)

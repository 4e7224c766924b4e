"""A command-line tool under a license: it counts words; `--export FILE` needs the entitlement `export`.

    python command_line.py notes.txt
    python command_line.py notes.txt --export counts.json

It goes on while the server is out of reach, on the signed lease of its last run. Exit codes, which scripts can rely on:
0 done, 2 wrong usage, 3 the license does not let it run, 4 no license server and no lease that is still good.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import seatkeeper

# The first three are constants of a real program: the root key is what makes a forged server useless.
URL = os.environ.get("SEATKEEPER_URL", "http://127.0.0.1:8080")
PRODUCT = os.environ.get("SEATKEEPER_PRODUCT", "demo-app")
ROOT_KEY = os.environ["SEATKEEPER_ROOT_KEY"]
# The key is the customer's: from a file of theirs, a prompt, or as here the environment; an option would show in `ps`.
LICENSE_KEY = os.environ.get("SEATKEEPER_LICENSE_KEY")

NOT_LICENSED, OUT_OF_REACH = 3, 4


def main() -> int:
    wishes = _wishes()
    try:
        with seatkeeper.SyncClient(URL, product=PRODUCT, root_key=ROOT_KEY, license_key=LICENSE_KEY) as license:
            if license.state.name is seatkeeper.Name.LIMITED:
                print(f"note: {license.state}", file=sys.stderr)  # tell, and go on
            return _count(wishes.file, wishes.export)
    except (seatkeeper.Refused, seatkeeper.EntitlementMissing) as refusal:
        print(f"not licensed: {refusal}", file=sys.stderr)  # the text says what to do, in the user's language
        return NOT_LICENSED
    except seatkeeper.Unreachable as silence:
        print(f"cannot start: {silence}", file=sys.stderr)
        return OUT_OF_REACH


def _count(file: Path, export: Path | None) -> int:
    if export is not None:
        seatkeeper.require("export")  # before the work, so that nobody waits for a refusal
    words = len(file.read_text("utf-8").split())
    if export is not None:
        export.write_text(json.dumps({"words": words}) + "\n", "utf-8")
    print(f"{words} words")
    return 0


def _wishes() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Count the words of a file.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--export", type=Path, metavar="FILE", help="write the count as JSON (an entitlement)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

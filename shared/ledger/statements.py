"""Named SQL: each `sql/*.sql` file holds blocks headed `-- name: …`, loaded once at import.

The text after the name is the block's own comment; statements stay in SQL files, never in Python strings.
"""

import re
from importlib.resources import files

_BLOCK = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load(file_name: str) -> dict[str, str]:
    """The statements of one file of `shared/ledger/sql`, by name."""
    text = (files("shared.ledger") / "sql" / file_name).read_text(encoding="utf-8")
    parts = _BLOCK.split(text)[1:]
    return {name: body.strip().rstrip(";") for name, body in zip(parts[::2], parts[1::2], strict=True)}

"""docs/facts.md says what the code does."""

from pathlib import Path

from shared.facts.document import PATH, document
from shared.licensing.model import EventKind

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_the_one_that_the_code_writes() -> None:
    assert (ROOT / PATH).read_text(encoding="utf-8") == document(), "run: python -m shared.facts.document"


def test_every_kind_of_fact_is_on_the_page() -> None:
    assert [kind for kind in EventKind if f"`{kind.value}`" not in document()] == []

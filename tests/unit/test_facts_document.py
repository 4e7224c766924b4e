"""docs/facts.md says what the code does."""

from shared.facts.document import PATH, document
from shared.facts.meanings import EVENTS, MEMBERS
from shared.licensing.facts import Fact
from shared.licensing.model import EventKind


def test_the_page_is_the_one_that_the_code_writes() -> None:
    assert PATH.read_text(encoding="utf-8") == document(), "run: python -m shared.facts.document"


def test_every_kind_and_member_of_a_fact_is_explained_and_none_that_is_gone() -> None:
    assert list(EVENTS) == list(EventKind)
    assert tuple(MEMBERS) == Fact.__struct_encode_fields__

"""A license's whole life, with every command in every order: the rules, the real ledger and an onlooker agree.

`HISTORIES` lives are played, 100 unless the variable says otherwise: `make histories` plays 1,000.
"""

import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis.stateful import run_state_machine_as_test

from shared.licensing import seat_rules
from shared.licensing.model import Command
from tests import servers
from tests.conftest import Database
from tests.histories.life import Life, play
from tests.histories.oracle import MOST_WAITING
from tests.histories.real import RealLedger, open_real_ledger
from tests.histories.wishes import COMMANDS
from tests.platform import copied_database

HISTORIES = int(os.environ.get("HISTORIES", "100"))


@pytest.fixture(scope="module")
async def one_database(postgres_server: servers.PostgresSource, template_database: str) -> AsyncIterator[Database]:
    async with copied_database(postgres_server, template_database) as database:
        yield database


@pytest.fixture(scope="module")
def real(one_database: Database) -> Iterator[RealLedger]:
    with open_real_ledger(one_database) as opened:
        yield opened


def test_the_rules_the_ledger_and_an_onlooker_agree_on_every_history(
    real: RealLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seat_rules, "PENDING_LIMIT", MOST_WAITING)
    seen: Counter[tuple[type[Command], str]] = Counter()

    class LifeInPostgres(Life):
        def __init__(self) -> None:
            super().__init__(real)

        def teardown(self) -> None:
            super().teardown()
            seen.update(self.seen)

    run_state_machine_as_test(LifeInPostgres, settings=play(HISTORIES))

    moving = {kind for kind, outcome in seen if outcome == "changed"}
    assert set(COMMANDS) - moving == set() or HISTORIES < 100, "these never changed anything"

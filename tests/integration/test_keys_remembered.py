"""Which keys a process finds without asking Postgres: those asked for last, and a bounded number."""

import pytest

from shared.ledger import reader
from shared.ledger.reader import Reader
from tests.builders import ACTIVATION, add_licenses, fetch, open_role
from tests.conftest import Database


async def test_a_key_that_is_asked_for_stays_and_the_others_are_forgotten(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "KEYS_REMEMBERED", 4)
    refs = set(await add_licenses(database, 5))
    digests = [row[0] for row in await fetch(database, "SELECT digest FROM license_key")]
    async with open_role(database.dsn_for(ACTIVATION)) as pool:
        found = Reader(pool)
        assert {await found.find([digest]) for digest in digests[:4]} < refs
        assert await found.find([digests[2]]) in refs
        assert await found.find([digests[4]]) in refs
        await fetch(database, "DELETE FROM license_key")

        kept = [await found.find([digest]) is not None for digest in digests]

    assert kept == [False, False, True, False, True]

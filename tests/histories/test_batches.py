"""Commands that one transaction decides have the outcome they would have one after the other."""

import asyncio
from datetime import timedelta

from shared.licensing.model import Activate, Granted, Resize
from tests.builders import NOW, add_license, ask, floating, names, open_ledger, owner
from tests.conftest import Database
from tests.histories.real import set_clock, stop_clock
from tests.invariants import check_invariants


async def test_a_license_made_smaller_frees_the_ended_leases_that_the_next_activation_needs(database: Database) -> None:
    async with owner(database) as connection:
        await stop_clock(connection)
        await set_clock(connection, NOW)
        ref = await add_license(database, seats=3, terms=floating(60))
        async with open_ledger(database) as ledger:
            for name in names(3):
                await ledger.submit(ask(Activate, name, ref=ref))
            await set_clock(connection, NOW + timedelta(seconds=60))

            _, activated = await asyncio.gather(
                ledger.submit(ask(Resize, ref=ref, seats=1)), ledger.submit(ask(Activate, "new", ref=ref))
            )

        assert isinstance(activated.answer, Granted), activated.answer
        assert activated.license.seats_used == 1
    await check_invariants(database)

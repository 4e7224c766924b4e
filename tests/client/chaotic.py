"""A platform that breaks things on purpose, as `CHAOS=1 make run` does, for tests of what is built on it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec.structs import replace

from services.standalone.app import open_standalone
from services.standalone.embedded import RedisServer
from shared.runtime.sections import Chaos
from tests.conftest import Database
from tests.platform import Platform, open_api, served, settings_for

SOME = Chaos(reject=0.05, delay=0.05, reset=0.05, twice=0.05, delay_s=0.5)
MUCH = Chaos(reject=0.3, delay=0.3, reset=0.3, twice=0.3, delay_s=0.2)


@asynccontextmanager
async def open_chaotic(database: Database, redis: RedisServer, chaos: Chaos) -> AsyncIterator[Platform]:
    calm = settings_for(database.dsn_for("seatkeeper_standalone"), redis.url)
    settings = replace(calm, testing=replace(calm.testing, chaos=chaos))
    async with (
        open_standalone(settings) as standalone,
        served(standalone.app) as url,
        open_api(url) as api,
    ):
        yield Platform(api=api, standalone=standalone, database=database, facts=[], redis=redis)

"""Runs the admin command as a process of its own, as an operator would, with no settings but those it is given."""

import asyncio
import base64
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from services.portal import app
from services.portal.accounts import terms
from shared.ledger.reader import LicenseRef
from shared.licensing.model import Kind
from shared.runtime.resources import Resources, Settings, open_resources
from shared.runtime.sections import Log, Postgres, Redis, Secret, Secrets
from tests.builders import fetch
from tests.conftest import Database

ROOT = Path(__file__).resolve().parents[2]
ROLE = "seatkeeper_operator"
SECRET = base64.b64encode(bytes(range(32))).decode()
LIMIT_S = 30.0


@dataclass(frozen=True)
class Ran:
    """What a run left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self
        return json.loads(self.out)

    def refused(self, code: int = 1) -> str:
        """The one line of a run that failed with this code and printed nothing else."""
        assert (self.code, self.out, self.err.count("\n")) == (code, "", 1), self
        return self.err


@dataclass(frozen=True)
class Vendor:
    """An account with a product, the policies `Node` and `Float`, and a license under `Node`; and another account."""

    account: UUID
    license: UUID
    other: UUID

    @property
    def ref(self) -> LicenseRef:
        return self.account, self.license


@dataclass(frozen=True)
class Admin:
    variables: dict[str, str] = field(default_factory=dict)

    async def __call__(self, *arguments: object, stdin: str = "", **variables: str) -> Ran:
        command = [sys.executable, "-m", "services.portal.admin", *map(str, arguments)]
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=ROOT,
            env=plain_environment() | self.variables | variables,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(stdin.encode()), LIMIT_S)
        assert process.returncode is not None
        return Ran(process.returncode, out.decode(), err.decode())

    async def id(self, *arguments: object) -> UUID:
        """The id that a creating command prints."""
        return UUID((await self(*arguments, "--json")).json["id"])

    async def at_once(self, *commands: Sequence[object]) -> list[Ran]:
        """Several commands, as many at a time as there are processors."""
        turns = asyncio.Semaphore(os.cpu_count() or 1)

        async def run(command: Sequence[object]) -> Ran:
            async with turns:
                return await self(*command)

        return await asyncio.gather(*map(run, commands))


def plain_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("SEATKEEPER_")}


def admin_of(database: Database, redis_url: str) -> Admin:
    return Admin(
        {
            "SEATKEEPER_POSTGRES_DSN": database.dsn_for(ROLE),
            "SEATKEEPER_REDIS_URL": redis_url,
            "SEATKEEPER_SECRETS_KEYS": f"k1:{SECRET}",
            "SEATKEEPER_SECRETS_CURRENT": "k1",
        }
    )


@asynccontextmanager
async def as_service(
    database: Database, redis_url: str, role: str, *, key_id: str = "k1", secret: str = SECRET
) -> AsyncIterator[Resources]:
    """What a service of that role has at hand on the same servers."""
    settings = Settings(
        postgres=Postgres(dsn=Secret(database.dsn_for(role))),
        redis=Redis(url=Secret(redis_url)),
        secrets=Secrets(keys={key_id: secret}, current=key_id),
        log=Log(level="error"),
    )
    async with open_resources(settings, application="test") as resources:
        yield resources


async def make_vendor(database: Database, redis_url: str) -> Vendor:
    """By the use cases alone, which is quicker than by commands."""
    async with as_service(database, redis_url, ROLE) as resources:
        accounts = app.accounts(resources)
        account, other = (await accounts.create("Acme")).id, (await accounts.create("Acme")).id
        await accounts.add_product(account, code="app", name="App")
        for name, kind in (("Node", Kind.NODE_LOCKED), ("Float", Kind.FLOATING)):
            await accounts.add_policy(account, name=name, seats=3, terms=terms(kind=kind, product_code="app"))
        license = await app.licenses(resources).create(account, policy="Node", customer="Ada")
        return Vendor(account=account, license=license.id, other=other)


async def contents(database: Database) -> dict[str, str]:
    """Every row of every table as text, but for the projection's epoch, which rises whenever a test has paused."""
    tables = await fetch(
        database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'projection'"
    )
    return {
        name: str(await fetch(database, f"SELECT t::text AS row FROM {name} t ORDER BY 1"))
        for name in sorted(row[0] for row in tables)
    }

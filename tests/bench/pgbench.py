"""The yardstick of activations: the ledger's own statements for one new device, as one transaction, issued by pgbench.

- The statements are those that the ledger issued for a device a moment ago, written down with their arguments. Of these
  license, device, fingerprint, time, version and count become pgbench's variables: the same statements by construction.
- On a copy of the database with as many licenses more, on the same server: no service relays what is committed there.
- Prepared, with the settings that the ledger's pool gives its connections, and as the role of the service.
"""

import asyncio
import os
import re
import subprocess
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg

from services.standalone.embedded import wheel_postgres_binaries
from shared.ledger.connections import open_pool
from shared.ledger.transaction import transact
from tests.bench.cost import cpu_s, family
from tests.bench.licenses import Grant, first_device
from tests.bench.load import LoadError
from tests.bench.sample import Sample
from tests.bench.world import DATABASE as OURS
from tests.bench.world import World

DATABASE = "seatkeeper_yardstick"
ROLE = "seatkeeper_activation"

_NUMBERED = "'00000000-0000-7000-8000-' || lpad(to_hex({}), 12, '0')"
_COPIES = f"""
INSERT INTO license
SELECT (jsonb_populate_record(l, jsonb_build_object('id', {_NUMBERED.format("n")}))).*
FROM license l, generate_series(1, $2::int) AS n
WHERE l.id = $1
"""
# Figures that nothing else in a statement's arguments is equal to.
_USED, _VERSION = 300_000, 700_000
_MARK = "UPDATE license SET seats_used = $2, version = $3 WHERE id = $1"
_SETTINGS = "SELECT name, setting FROM pg_settings WHERE source = 'client' AND name <> ALL ($1)"
_NOT_OURS = ["application_name", "client_encoding"]

_PARAMETER = re.compile(r"\$(\d+)")
_GSET = " \\gset"
_TPS = re.compile(r"^tps = ([\d.]+)", re.MULTILINE)
_COUNT = re.compile(r"^number of transactions actually processed: (\d+)", re.MULTILINE)
_FAILED = re.compile(r"^number of failed transactions: ([1-9]\d*)", re.MULTILINE)


class Statement(NamedTuple):
    """What was asked, and the first row of what came back."""

    text: str
    arguments: tuple[Any, ...]
    row: dict[str, Any] | None


class Yardstick:
    """Made once; `take` measures."""

    def __init__(self, world: World, folder: Path, grant: Grant, *, licenses: int) -> None:
        """`licenses` is how many are made like the grant's. Before any service is connected to the database."""
        self._world = world
        self._script = folder / "activation.sql"
        text, self._settings = asyncio.run(_prepare(world, grant, licenses))
        self._script.write_text(text)

    def take(self, seconds: float, *, clients: int) -> Sample:
        """A run, once the facts of the run before are sent. Raises `LoadError` when a transaction failed."""
        self._world.await_facts_sent()
        pids = family(self._world.postgres.pid)
        before = cpu_s(pids)
        command = [str(wheel_postgres_binaries() / "pgbench"), "-n", "-M", "prepared", "-f", str(self._script)]
        command += ["-c", str(clients), "-j", "1", "-T", str(max(1, round(seconds)))]
        done = subprocess.run(
            [*command, self._world.postgres.dsn(DATABASE, ROLE)],
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds + 60,
            env={**os.environ, "PGOPTIONS": self._settings},
        )
        tps, count = _TPS.search(done.stdout), _COUNT.search(done.stdout)
        if done.returncode or tps is None or count is None or _FAILED.search(done.stdout):
            raise LoadError(f"pgbench: {done.stdout}{done.stderr}")
        cost = cpu_s(pids) - before
        return Sample(rate=float(tps[1]), cost_us={"Postgres": 1e6 * cost / int(count[1])})


async def _prepare(world: World, grant: Grant, licenses: int) -> tuple[str, str]:
    """The script, and the settings of its sessions."""
    administrator = await asyncpg.connect(world.postgres.dsn("postgres"))
    try:
        await administrator.execute(f"CREATE DATABASE {DATABASE} TEMPLATE {OURS}")
    finally:
        await administrator.close()
    owner = await asyncpg.connect(world.postgres.dsn(DATABASE))
    pool = await open_pool(world.postgres.dsn(DATABASE, ROLE), application="bench", size=1, statement_timeout_s=5)
    try:
        await owner.execute(_COPIES, grant.id, licenses)
        await owner.execute(_MARK, grant.id, _USED, _VERSION)
        async with pool.acquire() as connection:
            recorder = _Recorder(connection)
            await transact(recorder, [first_device(grant)], wait=True)
            rows = await connection.fetch(_SETTINGS, _NOT_OURS)
    finally:
        await pool.close()
        await owner.close()
    return script(recorder.statements, grant, licenses), " ".join(f"-c {name}={value}" for name, value in rows)


class _Recorder:
    """A connection that writes down what is asked of it."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.statements: list[Statement] = []

    async def execute(self, text: str, *arguments: Any) -> Any:
        self.statements.append(Statement(text, arguments, None))
        return await self._connection.execute(text, *arguments)

    async def fetch(self, text: str, *arguments: Any) -> Any:
        rows = await self._connection.fetch(text, *arguments)
        self.statements.append(Statement(text, arguments, dict(rows[0]) if rows else None))
        return rows


def script(statements: Sequence[Statement], grant: Grant, licenses: int) -> str:
    """The statements as pgbench takes them, for a new device of one of the licenses at each run."""
    now = next(one.row["now"] for one in statements if one.row is not None and "now" in one.row)
    command = first_device(grant)
    known: dict[Any, str] = {
        grant.id: f"({_NUMBERED.format(':license::bigint')})",
        command.device_id: "md5(:device::text)",
        command.fingerprint: "(:device::text)",
        **{_USED + more: f"(:seats_used::bigint + {more})" for more in (0, 1)},
        **{_VERSION + more: f"(:version::bigint + {more})" for more in (0, 1)},
    }

    def value_of(value: Any) -> str:
        if isinstance(value, list | tuple):
            return f"ARRAY[{', '.join(map(value_of, value))}]" if value else "'{}'"
        if isinstance(value, datetime):
            return f"(:now::timestamptz + interval '{(value - now).total_seconds()} seconds')"
        return known.get(value) or literal(value)

    lines = [f"\\set license random(1, {licenses})", f"\\set device random(0, {2**62})"]
    for one in statements:
        arguments = [value_of(argument) for argument in one.arguments]
        parts = _PARAMETER.split(one.text.strip().rstrip(";"))
        parts[1::2] = [arguments[int(number) - 1] for number in parts[1::2]]
        lines.append("".join(parts) + (";" if one.row is None else _GSET))
    return "\n".join(lines) + "\n"


def literal(value: object) -> str:
    """A constant, without the colons that pgbench would take for a variable's."""
    if value is None:
        return "NULL"
    if isinstance(value, bool | int):
        return str(value)
    text = f"\\x{value.hex()}" if isinstance(value, bytes) else str(value)
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace(":", "\\x3a")
    return f"E'{escaped}'"

"""What every service stands on, opened in order and closed in reverse: Postgres, Redis, keys, ledger, pulse.

The only place where these parts are put together. A service starts with Postgres or Redis away and says so in
`/readyz`; the pulse goes on trying.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Literal

import msgspec
from prometheus_client import CollectorRegistry

from shared.ledger.catalog import Catalog
from shared.ledger.clock import Clock
from shared.ledger.connections import LOST, Pool, UnavailableError, open_pool
from shared.ledger.contact_counts import ContactCounts
from shared.ledger.ledger import AfterCommit, Ledger
from shared.ledger.migrate import pending
from shared.ledger.offline import OfflineFiles
from shared.ledger.reader import Reader
from shared.licensing.model import Change
from shared.runtime.background import background
from shared.runtime.contacts import Contacts
from shared.runtime.file_signing import FileSigner
from shared.runtime.holders import Holders
from shared.runtime.issuing import Issuer
from shared.runtime.keystore import Keystore
from shared.runtime.metrics import Metrics
from shared.runtime.pulse import beat, run_counts, run_pulse
from shared.runtime.sections import Limits as LimitsSection
from shared.runtime.sections import Log, Postgres, RabbitMQ, Redis, Secrets, Server, Testing
from shared.seats.connection import RedisConnection
from shared.seats.nonces import Nonces
from shared.seats.projection import Clock as ProjectionClock
from shared.seats.projection import Projection
from shared.seats.refusals import Refusals
from shared.seats.watermark import Watermark
from shared.signing.device_token import DeviceTokens
from shared.signing.license_key_hash import LicenseKeyHasher
from shared.signing.seal import TrailStamp
from shared.signing.secrets import MasterSecrets, Purpose
from shared.web.limits import Limits

LEDGER_WAIT_S = 0.4
"""So long a command may take in the ledger; under overload, what would take longer is refused at once."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that every service takes; one that needs more adds its own section."""

    environment: Literal["production", "development"] = "production"
    server: Server = msgspec.field(default_factory=Server)
    postgres: Postgres
    redis: Redis
    rabbitmq: RabbitMQ | None = None
    secrets: Secrets
    limits: LimitsSection = msgspec.field(default_factory=LimitsSection)
    log: Log = msgspec.field(default_factory=Log)
    testing: Testing = msgspec.field(default_factory=Testing)

    def __post_init__(self) -> None:
        if self.environment == "production" and self.testing != Testing():
            raise ValueError("testing is for environment = development: production takes none of its settings")


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """Open connections and the parts built on them; good until the context that made them ends."""

    pool: Pool
    clock: Clock
    ledger: Ledger
    after_commit: AfterCommit
    reader: Reader
    catalog: Catalog
    redis: RedisConnection
    projection: Projection
    nonces: Nonces
    refusals: Refusals
    contacts: Contacts
    holders: Holders
    keystore: Keystore
    issuer: Issuer
    file_signer: FileSigner
    offline_files: OfflineFiles
    device_tokens: DeviceTokens
    license_keys: LicenseKeyHasher
    management_tokens: LicenseKeyHasher
    secrets: MasterSecrets
    trail_stamp: TrailStamp
    limits: Limits
    metrics: Metrics
    testing: Testing

    async def migrations_to_run(self) -> list[str]:
        """What the database lacks for this code. Raises `UnavailableError`."""
        try:
            return await pending(self.pool)
        except LOST as error:
            raise UnavailableError from error

    async def check_postgres(self) -> str | None:
        """What keeps this process from deciding anything, if something does."""
        try:
            lacking = await self.migrations_to_run()
        except UnavailableError:
            return "out of reach"
        if lacking:
            return f"migrations to run: {', '.join(lacking)}"
        return None if self.clock.known else "its clock was not read yet"


@asynccontextmanager
async def open_resources(
    settings: Settings, *, application: str, on_commit: Callable[[], None] = lambda: None
) -> AsyncIterator[Resources]:
    """Open everything. `on_commit` is called after each commit that may have left facts in the outbox."""
    pool = await open_pool(
        settings.postgres.dsn.reveal(),
        application=application,
        size=settings.postgres.pool_size,
        statement_timeout_s=settings.postgres.statement_timeout_s,
    )
    redis = RedisConnection(settings.redis.url.reveal(), timeout_s=settings.redis.timeout_ms / 1000)
    resources = _build(settings, pool, redis, on_commit)
    watermark = Watermark(redis, resources.clock.raise_epoch)
    counts = ContactCounts(pool, lambda: resources.contacts.heard)
    await beat(resources.clock, watermark, resources.projection)
    try:
        async with (
            background(lambda stop: run_pulse(resources.clock, watermark, resources.projection, stop)),
            background(lambda stop: run_counts(counts, stop)),
        ):
            try:
                yield resources
            finally:
                await resources.ledger.close()
    finally:
        await redis.close()
        await pool.close()


def _build(settings: Settings, pool: Pool, redis: RedisConnection, on_commit: Callable[[], None]) -> Resources:
    secrets = MasterSecrets(settings.secrets.decoded(), settings.secrets.current)
    clock = Clock(pool)
    reader = Reader(pool)
    keystore = Keystore(reader, secrets)
    catalog = Catalog(pool)
    tokens = DeviceTokens(secrets)
    refusals = Refusals()
    projection = Projection(redis, ProjectionClock(now_s=clock.now_s, epoch=lambda: clock.epoch))

    async def after_commit(changes: Sequence[Change]) -> None:
        on_commit()
        await projection.push(changes)

    metrics = Metrics(CollectorRegistry())
    refused = metrics.counter("ledger_refused", "Commands that the ledger had no room for (503).")
    ledger = Ledger(pool, after_commit=after_commit, wait_s=LEDGER_WAIT_S, on_refused=refused.inc)
    return Resources(
        pool=pool,
        clock=clock,
        ledger=ledger,
        after_commit=after_commit,
        reader=reader,
        catalog=catalog,
        redis=redis,
        projection=projection,
        nonces=Nonces(redis),
        refusals=refusals,
        contacts=Contacts(projection, refusals, reader, clock),
        holders=Holders(reader),
        keystore=keystore,
        issuer=Issuer(keystore, tokens),
        file_signer=FileSigner(keystore, catalog, secrets),
        offline_files=OfflineFiles(pool),
        device_tokens=tokens,
        license_keys=LicenseKeyHasher(secrets),
        management_tokens=LicenseKeyHasher(secrets, Purpose.MANAGEMENT_TOKEN),
        secrets=secrets,
        trail_stamp=TrailStamp(secrets),
        limits=Limits(settings.limits, settings.server, redis, metrics),
        metrics=metrics,
        testing=settings.testing,
    )

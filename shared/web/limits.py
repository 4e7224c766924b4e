"""How much is taken from one side before it is told to wait: 429, with the time after which to try again.

Rules:
- By address only *failed* authentications count, since offices share addresses. Past the limit nothing from there is
  looked up: only what this process can tell without a look-up goes on, which is whom it knows. Device tokens prove
  themselves, and license keys that were found before are remembered.
- By license and by account counts what reaches the ledger; by license, and in this process alone, heartbeats.
- Redis away opens nothing: each process then goes on by its own counts.
"""

import math
from enum import StrEnum

from shared.runtime.metrics import Metrics
from shared.runtime.sections import Limits as Settings
from shared.runtime.sections import Server
from shared.seats import keys
from shared.seats.connection import RedisConnection
from shared.seats.limits import LocalMeter, Meter, Rate, RedisMeter
from shared.web.addresses import Addresses
from shared.web.texts import Fault

UNASKED_OF_LICENSE = 1 / 32
UNASKED_OF_ACCOUNT = 1 / 8
"""The part of the rate that a process lets pass without asking Redis, which costs a tenth of an activation."""


class Side(StrEnum):
    """By what is limited."""

    ADDRESS = "address"
    LICENSE = "license"
    ACCOUNT = "account"
    HEARTBEATS = "heartbeats"


class ThrottledError(Exception):
    """Too much from one side: nothing was done, and after `retry_after_s` seconds another try may be."""

    def __init__(self, side: Side, wait_s: float) -> None:
        super().__init__(f"{side}: {wait_s:.3f} s")
        self.fault = Fault.THROTTLED_ADDRESS if side is Side.ADDRESS else Fault.THROTTLED_LICENSE
        self.retry_after_s = max(1, math.ceil(wait_s))


class Refusals:
    """Counts what it refuses, by side."""

    def __init__(self, metrics: Metrics) -> None:
        counter = metrics.counter("throttled", "Requests that were told to wait (429), by what was limited.", ["side"])
        self._counts = {side: counter.labels(side.value) for side in Side}

    def check(self, side: Side, wait_s: float) -> None:
        """Raises `ThrottledError` where there is a time to wait."""
        if wait_s:
            self._counts[side].inc()
            raise ThrottledError(side, wait_s)


class FailedAuthentications:
    """Guesses, by the address that they come from. Every method raises `ThrottledError`."""

    def __init__(self, meter: Meter | None, refusals: Refusals) -> None:
        self._meter = meter
        self._refusals = refusals

    async def before_look_up(self, address: bytes) -> None:
        """Whether the address may have one looked up."""
        if self._meter is not None:
            self._refusals.check(Side.ADDRESS, await self._meter.wait_s(keys.address_rate_key(address)))

    async def after_look_up(self, address: bytes) -> None:
        """What was looked up was not found. It is told so: whether it may try on is seen at the next."""
        if self._meter is not None:
            await self._meter.owe(keys.address_rate_key(address))

    async def seen(self, address: bytes) -> None:
        """What needs no look-up to be seen: a mistyped key, a bad MAC."""
        if self._meter is not None:
            self._refusals.check(Side.ADDRESS, await self._meter.take(keys.address_rate_key(address)))


class LedgerRequests:
    """What reaches the ledger, by license and by account."""

    def __init__(self, by_license: Meter | None, by_account: Meter | None, refusals: Refusals) -> None:
        self._by_license = by_license
        self._by_account = by_account
        self._refusals = refusals

    async def admit(self, ids: bytes) -> None:
        """`ids` are those of account and license, 16 bytes each. Raises `ThrottledError`."""
        if self._by_license is not None:
            key = keys.license_rate_key(ids)
            self._refusals.check(Side.LICENSE, await self._by_license.take(key))
        if self._by_account is not None:
            key = keys.account_rate_key(ids[:16])
            self._refusals.check(Side.ACCOUNT, await self._by_account.take(key))


class Heartbeats:
    """What one license's devices send this process."""

    def __init__(self, meter: LocalMeter | None, refusals: Refusals) -> None:
        self._meter = meter
        self._refusals = refusals

    def admit(self, ids: bytes) -> None:
        """`ids` begin with account and license, 16 bytes each. Raises `ThrottledError`."""
        if self._meter is not None and (wait_s := self._meter.take(ids[:32])):
            self._refusals.check(Side.HEARTBEATS, wait_s)


class Limits:
    """All of them, and how an address is found in a request."""

    def __init__(self, settings: Settings, server: Server, connection: RedisConnection, metrics: Metrics) -> None:
        redis = RedisMeter(connection)
        refusals = Refusals(metrics)

        def meter(per_s: float, burst: float, unasked: float = 0.0) -> Meter | None:
            return Meter(redis, Rate.of(per_s, burst), unasked=unasked) if per_s else None

        def of_seconds(per_s: float, unasked: float) -> Meter | None:
            return meter(per_s, per_s * settings.burst_s, unasked)

        heartbeats = settings.license_heartbeats_per_s
        self.address_of = Addresses(server.trusted_proxies)
        self.failures = FailedAuthentications(
            meter(settings.failed_authentications_per_min / 60, settings.failed_authentications_burst), refusals
        )
        self.ledger = LedgerRequests(
            of_seconds(settings.license_requests_per_s, UNASKED_OF_LICENSE),
            of_seconds(settings.account_requests_per_s, UNASKED_OF_ACCOUNT),
            refusals,
        )
        self.heartbeats = Heartbeats(
            LocalMeter(Rate.of(heartbeats, heartbeats * settings.burst_s)) if heartbeats else None, refusals
        )

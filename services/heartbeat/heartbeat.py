"""Heartbeat: a device says it is there, and keeps its seat.

Redis answers while Postgres already promises the device its lease (the floor). Every other answer, and every no,
comes from the ledger, which decides and commits before anything is said.
"""

from uuid import UUID

import msgspec

from shared.batching import OverloadedError
from shared.ledger.clock import Clock
from shared.ledger.connections import UnavailableError
from shared.ledger.ledger import Ledger, LicenseNotFoundError
from shared.licensing.codes import Code
from shared.licensing.leases import valid_until_s
from shared.licensing.model import Decision, Device, Extend, License, Reason, Refused, Release
from shared.runtime.issuing import IssuedLease, Issuer, held_until_s
from shared.seats.projection import Projection, Seen, Standing
from shared.seats.refusals import Refusals
from shared.signing.device_token import DeviceClaims, DeviceTokens


class Alive(msgspec.Struct, frozen=True, kw_only=True):
    """The seat is kept. `lease` is a newly signed one, where the device's own is due or was not told.

    Times are whole seconds since 1970. `valid_until_s` is the end of the lease that the device now holds: of the new
    one, or of the one it told of; None where neither is known.
    """

    device_id: UUID
    generation: int
    lease_expires_s: int
    valid_until_s: int | None
    interval_s: int
    lease: IssuedLease | None = None


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """The device gave its seat back."""

    device_id: UUID


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """No seat any more, or none that may be used now, and why."""

    code: Code
    reason: Reason | None = None


class Heartbeat:
    def __init__(
        self,
        tokens: DeviceTokens,
        projection: Projection,
        refusals: Refusals,
        ledger: Ledger,
        issuer: Issuer,
        clock: Clock,
    ) -> None:
        self._tokens = tokens
        self._projection = projection
        self._refusals = refusals
        self._ledger = ledger
        self._issuer = issuer
        self._clock = clock

    async def __call__(self, token: str, held_until: float | None, *, leave: bool) -> Alive | Left | Lost:
        """`held_until` is the end of the signed lease that the device holds, seconds since 1970, if it says so."""
        claims = self._tokens.verify(token)
        if claims is None:
            return Lost(code=Code.TOKEN_INVALID)
        try:
            return await (self._leave(claims) if leave else self._keep(claims, held_until))
        except LicenseNotFoundError:
            return Lost(code=Code.TOKEN_INVALID)

    async def _keep(self, claims: DeviceClaims, held_until: float | None) -> Alive | Lost:
        seen = await self._projection.contact(claims.account, claims.license, claims.device, claims.generation)
        alive, due = self._inside_floor(claims, seen, held_until)
        if alive is not None and not due:
            return alive
        asker = (claims.license, claims.device, claims.generation)
        if seen.standing is not None and (kept := self._refusals.find(asker, seen.standing.version)) is not None:
            return Lost(code=kept.code, reason=kept.reason)
        try:
            return await self._ask_ledger(claims, held_until)
        except (UnavailableError, OverloadedError):
            if alive is None:
                raise
            return alive  # what was promised holds; a new lease comes with a later heartbeat

    def _inside_floor(self, claims: DeviceClaims, seen: Seen, held_until: float | None) -> tuple[Alive | None, bool]:
        """The answer that Redis alone allows, if any, and whether the device's signed lease is due."""
        standing, floor_s = seen.standing, seen.floor_s
        if standing is None or floor_s is None:
            return None, False
        now_s = self._clock.now_s()
        could_be_s = _could_be_s(standing, floor_s, now_s)
        alive = Alive(
            device_id=claims.device,
            generation=claims.generation,
            lease_expires_s=floor_s,
            valid_until_s=_held_s(held_until, could_be_s),
            interval_s=standing.heartbeat_interval_s,
        )
        return alive, held_until is not None and _is_due(held_until, now_s, standing.offline_grace_s, could_be_s)

    async def _ask_ledger(self, claims: DeviceClaims, held_until: float | None) -> Alive | Lost:
        decision = await self._ledger.submit(
            Extend(
                account_id=claims.account,
                license_id=claims.license,
                actor="device",
                device_id=claims.device,
                generation=claims.generation,
            )
        )
        if isinstance(decision.answer, Refused):
            asker = (claims.license, claims.device, claims.generation)
            self._refusals.keep(asker, decision.license.version, decision.answer)
            return Lost(code=decision.answer.code, reason=decision.answer.reason)
        assert decision.answer.device is not None
        return await self._alive_by_ledger(decision.license, decision.answer.device, held_until)

    async def _alive_by_ledger(self, license: License, device: Device, held_until: float | None) -> Alive:
        now_s = self._clock.now_s()
        until_s = held_until_s(license, device, now_s)
        due = held_until is None or _is_due(held_until, now_s, license.terms.offline_grace_s, until_s)
        assert device.lease_expires_at is not None
        return Alive(
            device_id=device.id,
            generation=device.generation,
            lease_expires_s=int(device.lease_expires_at.timestamp()),
            valid_until_s=until_s if due else _held_s(held_until, until_s),
            interval_s=license.terms.heartbeat_interval_s,
            lease=await self._issuer.lease(license, device, now_s) if due else None,
        )

    async def _leave(self, claims: DeviceClaims) -> Left | Lost:
        decision: Decision = await self._ledger.submit(
            Release(
                account_id=claims.account,
                license_id=claims.license,
                actor="device",
                device_id=claims.device,
                generation=claims.generation,
                reason=Reason.USER,
            )
        )
        if isinstance(decision.answer, Refused):
            return Lost(code=decision.answer.code)
        return Left(device_id=claims.device)


def _could_be_s(standing: Standing, floor_s: int, now_s: float) -> int:
    """The end that a lease signed now would state."""
    return valid_until_s(
        lease_expires_s=floor_s,
        issued_s=int(now_s),
        offline_grace_s=standing.offline_grace_s,
        license_expires_s=standing.expires_at_s,
    )


def _held_s(held_until: float | None, could_be_s: int) -> int | None:
    """The end of the lease that the device holds, as far as it is still good: a license may end sooner than it did."""
    return None if held_until is None else min(int(held_until), could_be_s)


def _is_due(held_until: float, now_s: float, offline_grace_s: int, could_be_s: int) -> bool:
    """Whether a signed lease is past half its life, and a new one would last longer."""
    return held_until < now_s + offline_grace_s / 2 and held_until < could_be_s

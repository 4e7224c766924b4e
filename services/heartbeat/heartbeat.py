"""Heartbeat: a device says it is there, and keeps its seat.

Redis answers while Postgres already promises the device its lease (the floor). Every other answer, and every no,
comes from the ledger, which decides and commits before anything is said. More of one license than the limit allows
raise `ThrottledError`.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec.structs import replace

from shared.batching import OverloadedError
from shared.ledger.clock import Clock
from shared.ledger.connections import UnavailableError
from shared.ledger.ledger import Ledger, LicenseNotFoundError
from shared.ledger.reader import Holder
from shared.licensing.codes import Code
from shared.licensing.leases import valid_until_s
from shared.licensing.model import Decision, Device, Extend, License, Reason, Refused, Release
from shared.runtime.contacts import Contacts
from shared.runtime.holders import Holders
from shared.runtime.issuing import IssuedLease, Issuer, held_until_s
from shared.seats.projection import UNKNOWN, Seen, Standing
from shared.seats.refusals import Asker, Refusals
from shared.signing.device_token import DeviceClaims, DeviceTokens
from shared.web.limits import Heartbeats


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """What a device says. `held_until` is the end of the signed lease that it holds, seconds since 1970; `counter` its
    count of its heartbeats; `version` its application's."""

    token: str
    held_until: float | None = None
    leave: bool = False
    counter: int | None = None
    version: str | None = None


class Heard(msgspec.Struct, kw_only=True):
    """A beat whose token was verified, and what Redis says of the device once it was asked."""

    beat: Beat
    claims: DeviceClaims
    seen: Seen = UNKNOWN

    @property
    def contact(self) -> tuple[bytes, int, int]:
        return self.claims.ids, self.claims.generation, self.beat.counter or 0


class Alive(msgspec.Struct, frozen=True, kw_only=True):
    """The seat is kept. `lease` is a newly signed one, where the device's own is due or was not told.

    Times are whole seconds since 1970. `valid_until_s` is the end of the lease that the device now holds: of the new
    one, or of the one it told of; None where neither is known. `overage` says that more seats are taken than were sold.
    """

    claims: DeviceClaims
    lease_expires_s: int
    valid_until_s: int | None
    interval_s: int
    lease: IssuedLease | None = None
    warning: Code | None = None
    overage: bool = False


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """The device gave its seat back."""

    claims: DeviceClaims


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """No seat any more, or none that may be used now, and why. `claims` are those of a token that was verified; `until`
    is the end of what is refused only for a time."""

    code: Code
    reason: Reason | None = None
    until: datetime | None = None
    claims: DeviceClaims | None = None
    license: License | None = None
    holders: list[Holder] | None = None


class Heartbeat:
    def __init__(
        self,
        tokens: DeviceTokens,
        contacts: Contacts,
        refusals: Refusals,
        holders: Holders,
        ledger: Ledger,
        issuer: Issuer,
        clock: Clock,
        limits: Heartbeats,
    ) -> None:
        self._tokens = tokens
        self._contacts = contacts
        self._refusals = refusals
        self._holders = holders
        self._ledger = ledger
        self._issuer = issuer
        self._clock = clock
        self._limits = limits

    async def __call__(self, beat: Beat) -> Alive | Left | Lost:
        heard = self.hear(beat)
        if heard is None:
            return Lost(code=Code.TOKEN_INVALID)
        if not beat.leave:
            heard.seen = await self._contacts.asked(*heard.contact)
        return self.plain(heard) or await self.decide(heard)

    # --- The same step by step, for those who come together ---

    def hear(self, beat: Beat) -> Heard | None:
        """Whose heartbeat it is; None for nobody we know. Raises `ThrottledError`."""
        claims = self._tokens.verify(beat.token)
        if claims is None:
            return None
        self._limits.admit(claims.ids)
        return Heard(beat=beat, claims=claims)

    async def ask(self, all_heard: Sequence[Heard]) -> None:
        """What Redis says of each, but for those who leave."""
        asked = [heard for heard in all_heard if not heard.beat.leave]
        for heard, seen in zip(asked, await self._contacts.all_asked([one.contact for one in asked]), strict=True):
            heard.seen = seen

    def plain(self, heard: Heard) -> Alive | None:
        """The answer, where Redis alone allows it and no lease has to be signed."""
        alive, due = self._inside_floor(heard)
        if alive is None or due:
            return None
        self._contacts.heard += 1
        return alive

    async def decide(self, heard: Heard) -> Alive | Left | Lost:
        """The answer to all others."""
        try:
            outcome = await (self._leave(heard.claims) if heard.beat.leave else self._keep(heard))
        except LicenseNotFoundError:
            return Lost(code=Code.TOKEN_INVALID, claims=heard.claims)
        if isinstance(outcome, Alive):
            self._contacts.heard += 1
        return outcome

    async def _keep(self, heard: Heard) -> Alive | Lost:
        claims = heard.claims
        if not heard.seen.known:
            heard.seen = await self._contacts.read(heard.seen, *heard.contact)
        alive, due = self._inside_floor(heard)
        if alive is not None and not due:
            return alive
        standing = heard.seen.standing
        if standing is not None and (kept := self._refusals.find(_asker(claims), standing.version)):
            return await self._lost(claims, *kept)
        try:
            return await self._ask_ledger(claims, heard.beat, heard.seen.counter)
        except (UnavailableError, OverloadedError):
            if alive is None:
                raise
            return alive  # what was promised holds; a new lease comes with a later heartbeat

    def _inside_floor(self, heard: Heard) -> tuple[Alive | None, bool]:
        """The answer that Redis alone allows, if any, and whether the device's signed lease is due."""
        seen, held_until = heard.seen, heard.beat.held_until
        standing, floor_s = seen.standing, seen.floor_s
        if standing is None or floor_s is None:
            return None, False
        now_s = self._clock.now_s()
        valid_until_s, due = None, False
        if held_until is not None:
            could_be_s = _could_be_s(standing, floor_s, now_s)
            valid_until_s = _held_s(held_until, could_be_s)
            due = _is_due(held_until, now_s, standing.offline_grace_s, could_be_s)
        alive = Alive(
            claims=heard.claims,
            lease_expires_s=floor_s,
            valid_until_s=valid_until_s,
            interval_s=standing.heartbeat_interval_s,
            warning=Code.LICENSE_EXPIRED if standing.is_expired(now_s) else None,
            overage=standing.overage,
        )
        return alive, due

    async def _ask_ledger(self, claims: DeviceClaims, beat: Beat, counter_seen: int) -> Alive | Lost:
        decision = await self._ledger.submit(
            Extend(
                account_id=claims.account,
                license_id=claims.license,
                actor="device",
                device_id=claims.device,
                generation=claims.generation,
                resumes=True,
                counter=beat.counter,
                counter_seen=counter_seen,
                version=beat.version,
            )
        )
        if isinstance(decision.answer, Refused):
            self._refusals.keep(_asker(claims), decision.license, decision.answer)
            return await self._lost(claims, decision.license, decision.answer)
        assert decision.answer.device is not None
        alive = await self._alive_by_ledger(claims, decision.license, decision.answer.device, beat.held_until)
        return replace(alive, warning=decision.answer.warning)

    async def _alive_by_ledger(
        self, claims: DeviceClaims, license: License, device: Device, held_until: float | None
    ) -> Alive:
        now_s = self._clock.now_s()
        until_s = held_until_s(license, device, now_s)
        due = held_until is None or _is_due(held_until, now_s, license.terms.offline_grace_s, until_s)
        assert device.lease_expires_at is not None
        return Alive(
            claims=claims,
            lease_expires_s=int(device.lease_expires_at.timestamp()),
            valid_until_s=until_s if due else _held_s(held_until, until_s),
            interval_s=license.terms.heartbeat_interval_s,
            lease=await self._issuer.lease(license, device, now_s) if due else None,
            overage=license.seats_used > license.seats_limit,
        )

    async def _lost(self, claims: DeviceClaims, license: License, refused: Refused) -> Lost:
        silenced = refused.reason in (Reason.LEASE_EXPIRED, Reason.IDLE) and not license.admits
        return Lost(
            code=refused.code,
            reason=refused.reason,
            until=refused.until,
            claims=claims,
            license=license,
            holders=await self._holders(license) if silenced else None,
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
            return await self._lost(claims, decision.license, decision.answer)
        return Left(claims=claims)


def _asker(claims: DeviceClaims) -> Asker:
    return claims.license, claims.device, claims.generation


def _could_be_s(standing: Standing, floor_s: int, now_s: float) -> int:
    """The end that a lease signed now would state."""
    return valid_until_s(
        lease_expires_s=floor_s,
        issued_s=int(now_s),
        offline_grace_s=standing.offline_grace_s,
        license_expires_s=standing.hard_end_s,
    )


def _held_s(held_until: float | None, could_be_s: int) -> int | None:
    """The end of the lease that the device holds, as far as it is still good: a license may end sooner than it did."""
    return None if held_until is None else min(int(held_until), could_be_s)


def _is_due(held_until: float, now_s: float, offline_grace_s: int, could_be_s: int) -> bool:
    """Whether a signed lease is past half its life, and a new one would last longer."""
    return held_until < now_s + offline_grace_s / 2 and held_until < could_be_s

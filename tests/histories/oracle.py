"""What an onlooker expects who knows the design and nothing of the rules' code: plain names, sets and dates.

For each command he names every objection that there is. It has to be granted where there is none, and refused with one
of them where there are some; afterwards exactly those hold a seat whom he expects. On his own account he keeps
- the promises: no seat is lost to silence before the last end told to its device, nor within a lease of any contact
  that was acknowledged;
- the limits: no seat beyond the license's, unless the policy sells more.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from shared.licensing.codes import Code
from shared.licensing.model import (
    Activate,
    Announce,
    Approval,
    Approve,
    Block,
    Command,
    Device,
    DeviceCommand,
    DeviceState,
    Expire,
    Extend,
    Granted,
    HoldOffline,
    Kind,
    OnClone,
    OnExpiry,
    Overage,
    Reason,
    Refused,
    Reinstate,
    Release,
    Reset,
    Resize,
    ReturnOffline,
    Revoke,
    Suspend,
    Terms,
    Unblock,
    Window,
)

HOUR, DAY, YEAR = timedelta(hours=1), timedelta(days=1), timedelta(days=365)
MOST_WAITING = 2
VERSIONS = {"2.3": (2, 3), "2.4.1": (2, 4), "3.0": (3, 0), "1.9": (1, 9)}


@dataclass
class Known:
    """One device. `lease_end` is what Postgres holds; `heard` the last contact that was acknowledged."""

    state: str = "gone"  # or waiting, seated, blocked
    generation: int = 0
    approved: bool = False
    nonces: list[bytes] = field(default_factory=list)
    lease_end: datetime | None = None
    heard: datetime | None = None
    told: list[datetime] = field(default_factory=list)
    offline: datetime | None = None
    lost_to_silence: bool = False
    counter: int = 0


class Oracle:
    def __init__(self, terms: Terms, seats: int, expires_at: datetime | None, token: tuple[datetime, int]) -> None:
        self.terms = terms
        self.lease = timedelta(seconds=terms.lease_s)
        self.slack = DAY if self.lease >= DAY else timedelta()
        self.limit = seats
        self.status = "active"
        self.expires_at = expires_at
        self.token_end, self.token_uses = token
        self.token_revoked = False
        self.not_before: datetime | None = None
        self.devices: dict[UUID, Known] = {}
        self.releases: list[datetime] = []
        self.activations: list[datetime] = []

    @property
    def seated(self) -> set[UUID]:
        return {id for id, known in self.devices.items() if known.state == "seated"}

    @property
    def waiting(self) -> int:
        return sum(known.state == "waiting" and not known.approved for known in self.devices.values())

    def moments(self) -> list[datetime]:
        """When something ends, if nothing happens before."""
        ends = [end for known in self.devices.values() for end in (known.lease_end, known.offline) if end]
        moments = {*ends, *(end + self.slack for end in ends), *(end - min(7 * DAY, self.lease / 10) for end in ends)}
        if self.terms.activations_per_hour is not None:
            moments |= {moment + HOUR for moment in self.activations}
        if self.terms.releases_per_year is not None:
            moments |= {moment + YEAR for moment in self.releases}
        if self.expires_at is not None:
            moments.add(self.expires_at)
        return sorted(moments)

    # --- What he checks -----------------------------------------------------------------------------------------

    def judge(self, command: Command, answer: Granted | Refused, after: Mapping[UUID, Device], now: datetime) -> None:
        """`after` are the license's devices once the command was dealt with."""
        objections = self.objections(command, now)
        if isinstance(answer, Refused):
            assert answer.code in objections, f"refused with {answer.code}, and the objections are {objections}"
        else:
            assert not objections, f"granted in spite of {objections}"
        before = self.seated
        may_go = {id for id in before if self.is_over(self.devices[id], now)}
        self._follow(command, answer, now)
        seated = {id for id, device in after.items() if device.state is DeviceState.ACTIVE}
        for id in self.seated - seated:
            assert id in may_go, f"{command} cost {id} its seat"
            assert _seeks(command), f"{command} freed {id} in passing"
            self._lose_to_silence(id, now)
        assert seated == self.seated, f"a seat out of nothing: {seated - self.seated}"
        if len(seated) > len(before):
            assert len(seated) <= self.limit or self.terms.overage is Overage.UNLIMITED
        for id in self.seated:
            assert after[id].generation == self.devices[id].generation
            assert after[id].lease_expires_at == self.devices[id].lease_end
        if isinstance(answer, Granted) and answer.device is not None and answer.device.state is DeviceState.ACTIVE:
            assert answer.device.lease_expires_at is not None
            self.devices[answer.device.id].told.append(answer.device.lease_expires_at)

    def check_counts(self, used: int, allowed: int, pending: int) -> None:
        assert (used, allowed, pending) == (len(self.seated), max(self.limit, len(self.seated)), self.waiting)

    def check_releases(self, counted: Window, now: datetime) -> None:
        """Where the policy limits them, each that was granted this year is counted."""
        if self.terms.releases_per_year is not None:
            over = counted.began_at is None or now >= counted.began_at + YEAR
            assert (0 if over else counted.count) == fallen(self.releases, YEAR, now)

    def _lose_to_silence(self, id: UUID, now: datetime) -> None:
        known = self.devices[id]
        assert known.heard is not None
        assert now >= known.heard + self.lease, "freed within its lease"
        assert known.offline is None or now >= known.offline, "freed while its offline file lives"
        assert all(now >= end for end in known.told), "freed before the end that was told"
        self._free(known, silent=True)

    # --- What he expects ----------------------------------------------------------------------------------------

    def objections(self, command: Command, now: datetime) -> set[Code]:
        match command:
            case Activate():
                return set(self._against_activation(command, now))
            case Extend():
                return set(self._against_contact(command, now))
            case Release() | Reset():
                return set(self._against_release(command, now))
            case HoldOffline():
                return set(self._against_offline_file(command, now))
            case Block() if (
                self._speaks_of(command) and self._known(command).state == "seated" and self._is_offline(command, now)
            ):
                return {Code.OFFLINE_HELD}
            case ReturnOffline():
                return set(self._against_return(command, now))
            case Block() | Unblock():
                return set() if self._speaks_of(command) else {Code.DEVICE_NOT_FOUND}
            case Approve():
                return {Code.DEVICE_BLOCKED} if self._known(command).state == "blocked" else set()
            case Suspend() | Reinstate():
                return {Code.LICENSE_REVOKED} if self.status == "revoked" else set()
            case Resize():
                return {Code.REQUEST_INVALID} if command.seats < 0 else set()
            case _:
                return set()

    def _against_activation(self, command: Activate, now: datetime) -> Iterator[Code]:
        known = self._known(command)
        if command.token_id is not None:
            yield from [Code.TOKEN_REVOKED] * self.token_revoked
            yield from [Code.TOKEN_EXPIRED] * (now >= self.token_end)
        yield from self._against_application(command)
        if known.state == "seated":
            yield from self._against_keeping(now)
            return
        yield from self._against_new_seats(now)
        yield from [Code.DEVICE_BLOCKED] * (known.state == "blocked")
        yield from [Code.REPLAYED] * (command.nonce in known.nonces[-8:])
        yield from [Code.TOKEN_EXHAUSTED] * (command.token_id is not None and self.token_uses == 0)
        if self._has_to_ask(known):
            yield from [Code.DEVICE_NOT_ALLOWED] * (known.state != "waiting" and self.waiting >= MOST_WAITING)
        else:
            yield from [Code.DEVICE_LIMIT_EXCEEDED] * (not self._has_room(now))
            yield from [Code.TOO_MANY_REQUESTS] * spent(self.activations, self.terms.activations_per_hour, HOUR, now)

    def _against_contact(self, command: Extend, now: datetime) -> Iterator[Code]:
        known = self._known(command)
        if command.device_id not in self.devices:
            yield Code.DEVICE_NOT_FOUND
        elif command.generation is not None and command.generation < known.generation:
            yield Code.LEASE_LOST
        elif known.state == "seated":
            yield from [Code.TOKEN_INVALID] * (command.generation is not None and command.generation > known.generation)
            yield from self._against_application(command)
            yield from self._against_keeping(now)
            yield from self._against_clones(known, command)
        elif not (command.resumes and command.generation == known.generation and known.lost_to_silence):
            yield Code.LEASE_LOST
        else:
            yield from self._against_new_seats(now)
            yield from self._against_application(command)
            yield from self._against_clones(known, command)
            yield from [Code.LEASE_LOST] * (not self._has_room(now))

    def _against_clones(self, known: Known, command: Extend) -> Iterator[Code]:
        yield from [Code.CLONE_SUSPECTED] * (self.terms.on_clone is OnClone.REFUSE and went_back(known, command))

    def _against_release(self, command: Release | Reset, now: datetime) -> Iterator[Code]:
        if not self._speaks_of(command):
            yield Code.DEVICE_NOT_FOUND
        elif self._holds(command):
            forced = isinstance(command, Release) and command.reason is Reason.FORCED
            yield from [Code.OFFLINE_HELD] * (self._is_offline(command, now) and not forced)
            yield from self._against_one_more_release(command, now)

    def _against_return(self, command: ReturnOffline, now: datetime) -> Iterator[Code]:
        if not self._speaks_of(command):
            yield Code.DEVICE_NOT_FOUND
        elif self._returns(command) and not command.keeps_seat:
            yield from self._against_one_more_release(command, now)

    def _against_one_more_release(self, command: DeviceCommand, now: datetime) -> Iterator[Code]:
        counts = command.actor != "admin" and self._known(command).state == "seated"
        yield from [Code.RELEASE_LIMIT_EXCEEDED] * (
            counts and spent(self.releases, self.terms.releases_per_year, YEAR, now)
        )

    def _against_offline_file(self, command: HoldOffline, now: datetime) -> Iterator[Code]:
        if not self._speaks_of(command):
            yield Code.DEVICE_NOT_FOUND
        elif self._known(command).state != "seated" or not self._holds(command):
            yield Code.LEASE_LOST
        else:
            yield from self._against_new_seats(now)
            allowed = now < command.until <= now + timedelta(days=self.terms.offline_max_days)
            yield from [Code.OFFLINE_NOT_ALLOWED] * (not allowed)

    def _against_new_seats(self, now: datetime) -> Iterator[Code]:
        yield from [Code.LICENSE_REVOKED] * (self.status == "revoked")
        yield from [Code.LICENSE_SUSPENDED] * (self.status == "suspended")
        yield from [Code.LICENSE_EXPIRED] * (self.is_expired(now) and self.terms.on_expiry is not OnExpiry.WARN)

    def _against_keeping(self, now: datetime) -> Iterator[Code]:
        yield from [Code.LICENSE_REVOKED] * (self.status == "revoked")
        yield from [Code.LICENSE_SUSPENDED] * (self.status == "suspended")
        yield from [Code.LICENSE_EXPIRED] * (self.is_expired(now) and self.terms.on_expiry is OnExpiry.REFUSE_ALL)

    def _against_application(self, command: Activate | Extend) -> Iterator[Code]:
        first, last, version = self.terms.min_version, self.terms.max_version, VERSIONS.get(command.version or "")
        too_old = first is not None and (version is None or version < VERSIONS[first])
        too_new = last is not None and (version is None or version > (2, 4))
        yield from [Code.VERSION_NOT_SUPPORTED] * (too_old or too_new)
        yield from [Code.ENTITLEMENT_MISSING] * (not set(command.entitlements) <= self.terms.entitlements.keys())

    # --- What happens then --------------------------------------------------------------------------------------

    def _follow(self, command: Command, answer: Granted | Refused, now: datetime) -> None:
        """Do what was granted. Of what was refused only the contact under a suspended license counts."""
        counts = isinstance(answer, Granted) or answer.code is Code.LICENSE_SUSPENDED
        if isinstance(command, Activate | Extend) and self._known(command).state == "seated":
            if counts:
                self._hear(self._known(command), command, now)
        elif isinstance(answer, Granted):
            self._obey(command, now)

    def _obey(self, command: Command, now: datetime) -> None:
        known = self._known(command) if isinstance(command, DeviceCommand) else Known()
        match command:
            case Activate() if self._has_to_ask(known):
                self.devices[command.device_id] = known
                known.state = "waiting"
            case Activate():
                self.devices[command.device_id] = known
                self._seat(known, command, now)
            case Extend():
                known.state, known.lost_to_silence = "seated", False
                self._renew(known, now)
                known.counter = highest(known, command)
            case Release() | Reset() if self._holds(command):
                if known.state == "seated" and command.actor != "admin":
                    self.releases.append(now)
                self._free(known)
            case ReturnOffline() if self._returns(command) and command.keeps_seat:
                known.generation, known.counter, known.told = known.generation + 1, 0, []
                self._renew(known, now)
            case ReturnOffline() if self._returns(command):
                if command.actor != "admin":
                    self.releases.append(now)
                self._free(known)
            case Expire() if self._holds(command) and known.state == "seated" and self.is_over(known, now):
                self._lose_to_silence(command.device_id, now)
            case HoldOffline() if known.offline is None or known.offline < command.until:
                self._renew(known, now, until=command.until)
            case Block() if known.state != "blocked":
                self._free(known)
                known.state, known.approved = "blocked", False
            case Unblock() if known.state == "blocked":
                known.state = "gone"
            case Approve():
                self.devices[command.device_id] = known
                known.approved = True
            case Suspend():
                self.status = "suspended"
            case Reinstate():
                self.status = "active"
            case Revoke():
                self.status = "revoked"
            case Resize():
                self.limit = command.seats
            case Announce() | _:
                pass

    def _seat(self, known: Known, command: Activate, now: datetime) -> None:
        known.state, known.lost_to_silence = "seated", False
        known.generation += 1
        known.nonces += [command.nonce] if command.nonce else []
        known.counter = 0
        self._renew(known, now)
        self.activations.append(now)
        self.token_uses -= command.token_id is not None
        if self.expires_at is None and self.terms.valid_s is not None:
            self.expires_at = now + timedelta(seconds=self.terms.valid_s)

    def _hear(self, known: Known, command: Activate | Extend, now: datetime) -> None:
        """Contacts of leases of 36 hours or more that come within 12 of the last committed one are not committed.

        A count that begins anew is, or the next would look like another machine's.
        """
        known.heard = now
        counter = highest(known, command) if isinstance(command, Extend) else known.counter
        assert known.lease_end is not None
        if self.lease < 36 * HOUR or known.lease_end - now <= self.lease - 12 * HOUR or counter < known.counter:
            self._renew(known, now, until=known.offline)
            known.counter = counter

    def _renew(self, known: Known, now: datetime, until: datetime | None = None) -> None:
        known.heard, known.offline = now, until
        known.lease_end = max(now + self.lease, until or now)

    def _free(self, known: Known, *, silent: bool = False) -> None:
        known.state, known.offline, known.told = "gone", None, []
        known.lost_to_silence = silent and self.terms.kind is Kind.FLOATING

    # --- What he knows ------------------------------------------------------------------------------------------

    def is_over(self, known: Known, now: datetime) -> bool:
        """Whether a seat may be taken from one who is silent."""
        rests = self.not_before is not None and now < self.not_before and self.lease >= DAY
        if self.status == "suspended" or rests or (known.offline is not None and now < known.offline):
            return False
        return known.lease_end is not None and now >= known.lease_end + self.slack

    def is_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and now >= self.expires_at

    def _has_room(self, now: datetime) -> bool:
        stay = [id for id in self.seated if not self.is_over(self.devices[id], now)]
        return len(stay) < self.limit or self.terms.overage is Overage.UNLIMITED

    def _has_to_ask(self, known: Known) -> bool:
        return self.terms.approval is Approval.ALLOW_LIST and not known.approved

    def _known(self, command: DeviceCommand) -> Known:
        return self.devices.get(command.device_id) or Known()

    def _speaks_of(self, command: DeviceCommand) -> bool:
        """Whether there is such a device, and was such a generation of it."""
        return command.device_id in self.devices and (command.generation or 0) <= self._known(command).generation

    def _holds(self, command: DeviceCommand) -> bool:
        """Whether what is to end has not ended already."""
        known = self._known(command)
        return known.state in ("seated", "waiting") and command.generation in (None, known.generation)

    def _returns(self, command: ReturnOffline) -> bool:
        """Whether the seat that was held is held still."""
        return self._holds(command) and self._known(command).state == "seated"

    def _is_offline(self, command: DeviceCommand, now: datetime) -> bool:
        offline = self._known(command).offline
        return offline is not None and now < offline


def spent(moments: list[datetime], most: int | None, length: timedelta, now: datetime) -> bool:
    """Whether as many as allowed fell into the window."""
    return most is not None and fallen(moments, length, now) >= most


def fallen(moments: list[datetime], length: timedelta, now: datetime) -> int:
    """How many fell into the window of this moment, which the first of them opened."""
    opened, count = None, 0
    for moment in moments:
        if opened is None or moment >= opened + length:
            opened, count = moment, 0
        count += 1
    if opened is None or now >= opened + length:
        count = 0
    return count


def went_back(known: Known, command: Extend) -> bool:
    return command.counter is not None and 1 < command.counter < max(known.counter, command.counter_seen)


def highest(known: Known, command: Extend) -> int:
    """A machine that starts anew counts from one; else the highest that anybody saw stays."""
    return 1 if command.counter == 1 else max(known.counter, command.counter or 0, command.counter_seen)


def _seeks(command: Command) -> bool:
    return isinstance(command, Activate) or (isinstance(command, Extend) and command.resumes)

"""The whole life of one license, as a machine that hypothesis drives: any command, in any order, at any time.

Each command goes to the pure rules, whose state the machine keeps, to the onlooker who knows nothing of them
(`oracle.py`) and, where there is one, to the real ledger. What they say has to be the same, and so has what Postgres
holds.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from msgspec.structs import replace

from shared.licensing import gates, leases
from shared.licensing.model import (
    ActivationToken,
    Command,
    Decision,
    Device,
    DeviceState,
    Granted,
    License,
    LicenseStatus,
    Reason,
    Terms,
)
from tests.builders import NOW, make_license, make_token
from tests.histories import wishes
from tests.histories.oracle import Oracle
from tests.histories.real import TOKEN_TTL_S, TOKEN_USES, RealLedger
from tests.histories.wishes import (
    Policy,
    Repeat,
    RestReaper,
    Situation,
    Step,
    Together,
    Wait,
    WaitUntil,
    Wish,
    WithdrawToken,
)
from tests.histories.world import World

STEPS = 80
FOREVER = datetime.max.replace(tzinfo=UTC)
SILENCE = (Reason.IDLE, Reason.LEASE_EXPIRED)


class Life(RuleBasedStateMachine):
    """Without a ledger it is the rules alone, in memory."""

    def __init__(self, real: RealLedger | None = None) -> None:
        super().__init__()
        self.real = real
        self.now = NOW
        self.last: list[Command] = []
        self.seen: Counter[tuple[type[Command], str]] = Counter()
        self.world: World
        self.oracle: Oracle

    @initialize(policy=wishes.policies(NOW), seats=st.sampled_from([1, 2, 2, 3, 0]))
    def grant(self, policy: Policy, seats: int) -> None:
        terms = policy.terms
        license, token = self.real.grant(terms, seats, NOW) if self.real else _in_memory(terms, seats)
        self.world = World(license, token)
        self.oracle = Oracle(terms, seats, license.expires_at, (token.expires_at, token.max_uses))

    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        self._take(data.draw(wishes.steps(self._situation())))

    def teardown(self) -> None:
        if self.real and hasattr(self, "world"):
            self.real.check(self._ref)

    # --- What has to hold ---------------------------------------------------------------------------------------

    @property
    def _ref(self) -> tuple[UUID, UUID]:
        return self.world.license.account_id, self.world.license.id

    # --- Steps --------------------------------------------------------------------------------------------------

    def _take(self, step: Step) -> None:
        match step:
            case Wish():
                self._wish([step])
            case Together():
                self._wish(step.wishes)
            case Repeat() if self.last:
                self._submit(self.last)
            case Wait():
                self._move_to(self.now + timedelta(seconds=step.seconds))
            case WaitUntil():
                self._wait_until(step)
            case RestReaper():
                self._rest_reaper(step)
            case WithdrawToken() if self.world.token.revoked_at is None:
                self._withdraw_token()

    def _wait_until(self, step: WaitUntil) -> None:
        ahead = [moment for moment in self.oracle.moments() if moment > self.now + timedelta(microseconds=1)]
        if ahead:
            self._move_to(ahead[min(step.nth, len(ahead) - 1)] + timedelta(microseconds=step.offset_us))

    def _situation(self) -> Situation:
        known = self.world.devices.values()
        seated = self.world.in_state(DeviceState.ACTIVE)
        releases = self.world.license.releases
        moved = 0 < (self.world.license.terms.releases_per_year or 0) <= releases.count
        return Situation(
            known=_names(known),
            seated=_names(seated),
            offline=_names(device for device in seated if leases.is_offline(device, self.now)),
            ending=_names(device for device in seated if self._is_ending(device)),
            silent=_names(device for device in known if device.ended_reason is Reason.LEASE_EXPIRED),
            suspended=self.world.license.status is LicenseStatus.SUSPENDED,
            moved=moved,
            this_year=moved and releases.began_at is not None and self.now < releases.began_at + gates.YEAR,
        )

    def _is_ending(self, device: Device) -> bool:
        license = self.world.license
        return leases.is_expiring(license, device, self.now) or leases.is_over(license, device, self.now)

    def _move_to(self, now: datetime) -> None:
        self.now, self.last = now, []
        if self.real:
            self.real.move_to(now)

    def _rest_reaper(self, step: RestReaper) -> None:
        not_before = self.now + timedelta(days=step.days) if step.days is not None else None
        if self.real:
            self.real.rest(not_before, self.now if step.halted else None)
        self.world.not_before = self.oracle.not_before = FOREVER if step.halted else not_before

    def _withdraw_token(self) -> None:
        if self.real:
            self.real.withdraw(self.world.token)
        self.world.token = replace(self.world.token, revoked_at=self.now)
        self.oracle.token_revoked = True

    def _wish(self, several: Sequence[Wish]) -> None:
        world = self.world
        self._submit([wish.command(self._ref, world.devices, world.token.id, self.now) for wish in several])

    def _submit(self, commands: list[Command]) -> None:
        """Have the ledger decide them together, and the rules one after the other."""
        self.last = commands
        told = self.real.submit(commands) if self.real else [None] * len(commands)
        for command, by_ledger in zip(commands, told, strict=True):
            decision = self._decide(command, by_ledger)
            assert by_ledger in (None, decision), differences("the ledger", by_ledger, "the rules", decision)
        if self.real:
            held = self.real.read(self._ref, self.world.token.id)
            kept = (self.world.license, self.world.devices, self.world.token)
            assert held == kept, differences("Postgres", held, "the rules", kept)
            self._check_told()

    def _decide(self, command: Command, by_ledger: Decision | None) -> Decision:
        world, version = self.world, self.world.license.version
        decision = world.decide(command, self.now, _freed(by_ledger))
        world.write(decision)
        self.seen[type(command), _outcome(decision)] += 1
        assert [event.version for event in decision.events] == list(range(version + 1, world.license.version + 1))
        self.oracle.judge(command, decision.answer, world.devices, self.now)
        license = world.license
        self.oracle.check_counts(license.seats_used, license.seats_allowed, license.devices_pending)
        self.oracle.check_releases(license.releases, self.now)
        assert world.token.uses == world.token.max_uses - self.oracle.token_uses
        self._check_repeated(command, decision)
        return decision

    def _check_repeated(self, command: Command, decision: Decision) -> None:
        """Said again at the same moment, it has the same answer and moves nothing."""
        again = self.world.decide(command, self.now)
        assert (again.license, again.events, again.token_used) == (self.world.license, (), None)
        assert all(device == self.world.devices[device.id] for device in again.devices)
        if isinstance(decision.answer, Granted):
            assert again.answer == replace(decision.answer, changed=False)
        else:
            assert again.answer == decision.answer

    def _check_told(self) -> None:
        """What goes to Redis is what Postgres holds."""
        assert self.real
        ((change,),) = self.real.batches
        assert change.license == self.world.license
        assert all(device == self.world.devices[device.id] for device in change.devices)


def play(histories: int) -> settings:
    return settings(
        max_examples=histories,
        stateful_step_count=STEPS,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


def _in_memory(terms: Terms, seats: int) -> tuple[License, ActivationToken]:
    license = make_license(seats=seats, terms=terms, version=1, expires_at=terms.expires_at)
    return license, make_token(max_uses=TOKEN_USES, expires_at=NOW + timedelta(seconds=TOKEN_TTL_S))


def _outcome(decision: Decision) -> str:
    if isinstance(decision.answer, Granted):
        return "changed" if decision.answer.changed else "as it was"
    return decision.answer.code


def _names(devices: Iterable[Device]) -> str:
    return "".join(sorted(device.fingerprint for device in devices))


def _freed(decision: Decision | None) -> frozenset[UUID]:
    events = decision.events if decision else ()
    return frozenset(event.device.id for event in events if event.device and event.reason in SILENCE)


def differences(one: str, first: object, other: str, second: object) -> str:
    """Where the two differ, member by member."""
    says, but = dict(_members(msgspec.to_builtins(first))), dict(_members(msgspec.to_builtins(second)))
    names = [name for name in sorted(says.keys() | but.keys()) if says.get(name) != but.get(name)]
    return "; ".join(f"{name}: {one} says {says.get(name)}, {other} {but.get(name)}" for name in names)


def _members(value: Any, name: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        for key, member in value.items():
            yield from _members(member, f"{name}.{key}" if name else str(key))
    else:
        yield name, value

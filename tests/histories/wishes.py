"""What histories are made of: policies of every kind, and commands as one would say them of a device.

A wish counts generations from the device's own and offline files from now, so that whatever is drawn hits something.
It prints as it would be written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from random import Random
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from shared.ledger.reader import LicenseRef
from shared.licensing.leases import DAY_S
from shared.licensing.model import (
    Activate,
    Announce,
    Approval,
    Approve,
    Block,
    Command,
    Device,
    DeviceCommand,
    Expire,
    Extend,
    HoldOffline,
    Kind,
    OnClone,
    OnExpiry,
    Overage,
    Reason,
    Reinstate,
    Release,
    Reset,
    Resize,
    ReturnOffline,
    Revoke,
    Suspend,
    Unblock,
)
from tests.builders import make_terms

DEVICES = "abcd"
IDS = {who: UUID(int=number) for number, who in enumerate(DEVICES, 1)}
"""Not derived from a license, so that a history that is played again happens in the same order."""

_ORDINARY = make_terms()
FLOATING_LEASES_S = [60, 3600, DAY_S]
NODE_LOCKED_LEASES_S = [3600, DAY_S, 7 * DAY_S, 90 * DAY_S]


@dataclass(frozen=True)
class Wish:
    """A command still to be addressed: `who` is a fingerprint, "" where the license as a whole is meant."""

    kind: type[Command]
    who: str
    members: Mapping[str, Any]

    def __repr__(self) -> str:
        said = [repr(self.who)] if self.who else []
        said += [
            f"{name}={value!s}" if name == "reason" else f"{name}={value!r}" for name, value in self.members.items()
        ]
        return f"{self.kind.__name__}({', '.join(said)})"

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(repr(self))

    def command(self, ref: LicenseRef, devices: Mapping[UUID, Device], token_id: UUID, now: datetime) -> Command:
        device = None
        members: dict[str, Any] = {"account_id": ref[0], "license_id": ref[1], "actor": "device"} | dict(self.members)
        if issubclass(self.kind, DeviceCommand):
            device = devices.get(IDS[self.who])
            members["device_id"] = IDS[self.who]
        if "fingerprint" in self.kind.__struct_fields__:
            members["fingerprint"] = self.who
        if (step := members.pop("generation", None)) is not None:
            members["generation"] = max(0, (device.generation if device else 0) + step)
        if members.pop("by_token", False):
            members["token_id"] = token_id
        if (days := members.pop("for_days", None)) is not None:
            members["until"] = now + timedelta(days=days)
        return self.kind(**members)


@dataclass(frozen=True)
class Wait:
    seconds: int


@dataclass(frozen=True)
class WaitUntil:
    """Until one of the moments ahead at which something ends (-1: the last), or a microsecond beside it."""

    nth: int
    offset_us: int


@dataclass(frozen=True)
class Together:
    wishes: list[Wish]


@dataclass(frozen=True)
class Repeat:
    """The last commands once more."""


@dataclass(frozen=True)
class RestReaper:
    """Silence ends no long lease for so many days, or until further notice."""

    days: int | None
    halted: bool


@dataclass(frozen=True)
class WithdrawToken:
    pass


@dataclass(frozen=True)
class Situation:
    """How a license stands: its devices, and of them those that are seated, have offline files, are near or past the
    end of their leases, and were lost to silence. `moved` tells that its devices have moved as often as a year
    allows, `this_year` that they did so in the year that is not over.
    """

    known: str
    seated: str
    offline: str
    ending: str
    silent: str
    suspended: bool
    moved: bool
    this_year: bool


Step = Wish | Wait | WaitUntil | Together | Repeat | RestReaper | WithdrawToken


_GENERATION = [None, 0, 0, 0, 0, 0, 0, -1, 1]
_APPLICATION: dict[str, list[Any]] = {
    "version": ["2.3", "2.4.1"] * 6 + ["3.0", "1.9", "new", None],
    "entitlements": [()] * 10 + [("pro",), ("pro", "ai")],
}
_MEMBERS: dict[type[Command], dict[str, list[Any]]] = {
    Activate: {"nonce": [None, None, None, b"1" * 16, b"2" * 16], "by_token": [False, False, True], **_APPLICATION},
    Extend: {
        "generation": _GENERATION,
        "resumes": [True, True, False],
        "counter": [None, None, 1, 2, 3, 4, 5],
        "counter_seen": [0, 0, 0, 0, 4],
        **_APPLICATION,
    },
    Release: {
        "generation": _GENERATION,
        "actor": ["device", "device", "admin"],
        "reason": [Reason.USER, Reason.USER, Reason.ADMIN, Reason.FORCED],
    },
    Reset: {"generation": _GENERATION, "actor": ["device", "device", "admin"]},
    Expire: {"generation": _GENERATION},
    Announce: {"generation": _GENERATION},
    HoldOffline: {"generation": _GENERATION, "for_days": [7, 7, 7, 7, 1, 1, 400, 120, -1]},
    ReturnOffline: {
        "generation": [step for step in _GENERATION if step is not None],
        "actor": ["device", "device", "admin"],
        "keeps_seat": [False, False, True],
    },
    Block: {"generation": _GENERATION},
    Unblock: {},
    Approve: {},
    Suspend: {},
    Reinstate: {},
    Revoke: {},
    Resize: {"seats": [1, 2, 3, 4, 0, -1]},
}
COMMANDS = [*_MEMBERS]
_DEFAULTS: dict[str, Any] = {"version": None, "entitlements": (), "nonce": None, "by_token": False, "generation": None}
_DEFAULTS |= {"resumes": False, "counter": None, "counter_seen": 0, "actor": "device"}
_WEIGHTS: dict[type[Command], float] = {Activate: 10, Extend: 10, Release: 3, Expire: 4, HoldOffline: 6, Revoke: 0.15}
PAUSES_S = [1, 60, 60, 600, 600, 3600, 3600, 40_000, DAY_S, 8 * DAY_S, 35 * DAY_S, 92 * DAY_S, 370 * DAY_S]


@st.composite
def steps(draw: st.DrawFn, situation: Situation) -> Step:
    """Mostly what makes sense in the situation, but anything now and then.

    Each is picked by a number of its own. Left to choose from lists, hypothesis prefers their ends and its own earlier
    choices, and few lives come to anything.
    """
    return _step(Random(draw(st.integers(0, 2**64 - 1))), situation)


def _step(random: Random, situation: Situation) -> Step:
    (what,) = random.choices(
        ["wish", "together", "rush", "wait", "wait until", "wait long", "repeat", "rest", "withdraw"],
        [60, 15, 2, 5, 15, 20 if situation.this_year else 1, 4, 1.5, 0.5],
    )
    match what:
        case "together":
            return Together([_wish(random, situation) for _ in range(random.randint(2, 6))])
        case "rush":
            return Together(
                [Wish(Activate, who, {"version": "2.3", "by_token": True}) for who in random.sample(DEVICES, 4)]
            )
        case "wait":
            return Wait(random.choice(PAUSES_S))
        case "wait until":
            return WaitUntil(random.choice([0, 0, 0, 1, 1, 2, 3]), random.choice([0, 0, -1, 1]))
        case "wait long":
            return WaitUntil(-1, random.choice([0, 0, -1, 1]))
        case "repeat":
            return Repeat()
        case "rest":
            return RestReaper(random.choice([None, None, 1, 100]), random.choice([False, False, True]))
        case "withdraw":
            return WithdrawToken()
    return _wish(random, situation)


def _wish(random: Random, situation: Situation) -> Wish:
    weights = _WEIGHTS | {Activate: 10 if situation.seated else 50}
    if situation.suspended:
        weights[Reinstate] = 20
    if situation.offline:
        weights |= {ReturnOffline: 12, Block: 4, Reset: 4}
    if situation.silent:
        weights[Extend] = 40
    if situation.moved:
        weights |= {Release: 15, Reset: 8, HoldOffline: 15, ReturnOffline: 40 if situation.offline else 1.5}
    if situation.ending:
        weights |= {Announce: 12, Expire: 20}
    (kind,) = random.choices(COMMANDS, [weights.get(kind, 1.5) for kind in COMMANDS])
    names = DEVICES
    if kind not in (Activate, Approve):
        names += situation.known * 2
        names += situation.silent * (12 if kind is Extend else 0)
        names += (situation.seated + situation.offline + situation.ending + situation.silent) * 4
    who = random.choice(names) if issubclass(kind, DeviceCommand) else ""
    members = {name: random.choice(values) for name, values in _MEMBERS[kind].items()}
    return Wish(kind, who, {name: value for name, value in members.items() if _DEFAULTS.get(name, ...) != value})


class Policy:
    """Terms, which print as what sets them apart from the ordinary."""

    def __init__(self, **members: Any) -> None:
        self.members = members
        self.terms = make_terms(**members)

    def __repr__(self) -> str:
        named = {name: value for name, value in self.members.items() if value != getattr(_ORDINARY, name)}
        return f"Policy({', '.join(_written(named))})"


@st.composite
def policies(draw: st.DrawFn, now: datetime) -> Policy:
    """Each rule is as in most policies or, about as often, one that binds."""
    kind = draw(st.sampled_from(Kind))
    node_locked = kind is Kind.NODE_LOCKED
    ends: list[dict[str, Any]] = [{"expires_at": now + timedelta(days=30)}, {"valid_s": 40 * DAY_S}, {"valid_s": 3600}]
    versions: list[dict[str, Any]] = [{}, {}, {}, {"min_version": "2.3"}, {"max_version": "2.4"}]
    entitlements: list[dict[str, int | None]] = [{}, {"pro": None}, {"pro": 3, "ai": None}]
    return Policy(
        kind=kind,
        lease_s=draw(st.sampled_from(NODE_LOCKED_LEASES_S if node_locked else FLOATING_LEASES_S)),
        approval=draw(st.sampled_from([*[Approval.AUTOMATIC] * 4, Approval.ALLOW_LIST])),
        overage=draw(st.sampled_from([Overage.NONE, Overage.NONE, Overage.UNLIMITED])),
        on_expiry=draw(st.sampled_from(OnExpiry)),
        activations_per_hour=draw(st.sampled_from([None, None, None, 1, 2])),
        releases_per_year=draw(st.sampled_from([None, None, 1, 1, 2, 0])) if node_locked else None,
        offline_max_days=draw(st.sampled_from([7, 7, 400, 0])),
        entitlements=draw(st.sampled_from(entitlements)),
        on_clone=draw(st.sampled_from(OnClone)),
        **draw(st.sampled_from([{}, {}, {}, {}, {}, *ends])),
        **draw(st.sampled_from(versions)),
    )


def _written(members: Mapping[str, Any]) -> list[str]:
    return [f"{name}={value if isinstance(value, StrEnum) else repr(value)}" for name, value in members.items()]

"""The vendors: accounts, policies and licenses of every kind, and what a vendor does to them while devices live.

Everything goes through the portal's use cases, straight to the servers of the world. What a vendor does is in the
history like any client's call.
"""

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any
from uuid import UUID

import msgspec

from services.portal.accounts import terms
from shared.batching import OverloadedError
from shared.ledger.catalog import CatalogError
from shared.ledger.connections import UnavailableError
from shared.ledger.ledger import LicenseNotFoundError
from shared.ledger.transaction import OutcomeUnknownError
from shared.licensing.model import (
    Approval,
    Decision,
    Device,
    Granted,
    Kind,
    Overage,
    Refused,
    Reinstate,
    Rules,
    Suspend,
    device_id,
)
from shared.runtime.resources import Resources, open_resources
from tests.faults.history import Writer
from tests.platform import PRODUCT, Vendor, new_vendor

PATIENCE_S = 60.0
UNSURE = (OutcomeUnknownError, UnavailableError, OverloadedError, TimeoutError, OSError)


class Sort(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of license that the load lives on: how many of each account's, with how many seats, wanted by how many
    devices. `tended` ones are what the vendor lays hands on; `hot` ones are wanted much more often than others."""

    name: str
    kind: Kind
    licenses: int
    seats: int
    devices: int
    lease_s: int | None = None
    approval: Approval = Approval.AUTOMATIC
    overage: bool = False
    tended: bool = False
    hot: bool = False


NODE_LOCKED, FLOATING = Kind.NODE_LOCKED, Kind.FLOATING
SORTS = (
    Sort(name="hot", kind=NODE_LOCKED, licenses=1, seats=6, devices=16, hot=True),
    Sort(name="usual", kind=NODE_LOCKED, licenses=20, seats=2, devices=5),
    Sort(name="tended", kind=NODE_LOCKED, licenses=3, seats=3, devices=6, tended=True),
    Sort(name="short", kind=NODE_LOCKED, licenses=3, seats=2, devices=5, lease_s=3),
    Sort(name="floating", kind=FLOATING, licenses=3, seats=2, devices=5, lease_s=2),
    Sort(name="floating longer", kind=FLOATING, licenses=2, seats=2, devices=4, lease_s=4),
    Sort(name="floating tended", kind=FLOATING, licenses=1, seats=3, devices=5, lease_s=3, tended=True),
    Sort(name="overage", kind=NODE_LOCKED, licenses=2, seats=2, devices=5, overage=True),
    Sort(name="allow-list", kind=NODE_LOCKED, licenses=2, seats=2, devices=5, approval=Approval.ALLOW_LIST),
)


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A license that the load lives on, as its clients know it. `lease_s` None stands for the usual 90 days."""

    account: UUID
    id: UUID
    key: str
    sort: Sort

    @property
    def fingerprints(self) -> list[str]:
        return [f"{self.sort.name} {number}" for number in range(self.sort.devices)]

    def device(self, fingerprint: str) -> UUID:
        return device_id(self.id, fingerprint)


class Vendors:
    """Two of them, alike."""

    def __init__(self, resources: Resources, vendors: Sequence[Vendor], writer: Writer, seed: int) -> None:
        self._resources = resources
        self._vendors = vendors
        self._writer = writer
        self._random = random.Random(seed)
        self._number = itertools.count(1)

    async def add_policies(self) -> None:
        for vendor, sort in itertools.product(self._vendors, SORTS):
            rules = Rules(overage=Overage.UNLIMITED if sort.overage else Overage.NONE)
            granted = terms(
                kind=sort.kind, product_code=PRODUCT, lease_s=sort.lease_s, approval=sort.approval, rules=rules
            )
            await vendor.accounts.add_policy(vendor.account, name=sort.name, seats=sort.seats, terms=granted)

    async def grant(self) -> list[Grant]:
        """A fresh license of each that the sorts name."""
        wanted = [(v, sort) for v, sort in itertools.product(self._vendors, SORTS) for _ in range(sort.licenses)]
        grants = list(await asyncio.gather(*(self._grant(*one) for one in wanted)))
        for grant in grants:
            self._writer.write("license", license=str(grant.id), limit=grant.sort.seats)
            if grant.sort.approval is Approval.ALLOW_LIST:
                for fingerprint in grant.fingerprints[::2]:
                    await self._persist(
                        lambda g=grant, f=fingerprint: self._of(g).licenses.approve((g.account, g.id), f)
                    )
        return grants

    async def tend(self, grants: Sequence[Grant], stop: asyncio.Event, *, every_s: float = 0.3) -> None:
        """Do one thing after the other to tended licenses, until told to stop; what was suspended is reinstated."""
        tended = [grant for grant in grants if grant.sort.tended]
        while not stop.is_set():
            grant = self._random.choice(tended)
            await self._do_one(grant)
            await asyncio.wait([asyncio.ensure_future(stop.wait())], timeout=self._random.uniform(0.5, 1.5) * every_s)
        for grant in tended:
            await self._do(
                "reinstate", grant, self._of(grant).licenses.set_status((grant.account, grant.id), Reinstate)
            )

    async def _do_one(self, grant: Grant) -> None:
        ref, licenses = (grant.account, grant.id), self._of(grant).licenses
        device = grant.device(self._random.choice(grant.fingerprints))
        chance = self._random.random()
        if chance < 0.45:
            seats = self._random.randint(1, grant.sort.seats + 1)
            await self._do("resize", grant, licenses.resize(ref, seats), limit=seats)
        elif chance < 0.65:
            await self._do("suspend", grant, licenses.set_status(ref, Suspend))
            await asyncio.sleep(self._random.uniform(0.05, 0.3))
            await self._do("reinstate", grant, licenses.set_status(ref, Reinstate))
        elif chance < 0.9:
            await self._do("release", grant, licenses.release(ref, device, forced=True), device=str(device))
        else:
            await self._do("block", grant, licenses.set_blocked(ref, device, blocked=True), device=str(device))
            await self._do("unblock", grant, licenses.set_blocked(ref, device, blocked=False), device=str(device))

    async def _do(self, verb: str, grant: Grant, doing: Awaitable[Decision], **members: Any) -> None:
        call = f"{self._writer.name}-{next(self._number)}"
        self._writer.write("invoke", call=call, op=call, verb=verb, license=str(grant.id), **members)
        try:
            answer = (await asyncio.wait_for(doing, PATIENCE_S)).answer
        except UNSURE as error:
            self._writer.write("unknown", call=call, code=type(error).__name__)
        else:
            if isinstance(answer, Refused):
                self._writer.write("refused", call=call, code=answer.code.value)
            else:
                self._writer.write("ok", call=call, **_told(answer))

    async def _grant(self, vendor: Vendor, sort: Sort) -> Grant:
        made = await self._persist(lambda: vendor.licenses.create(vendor.account, policy=sort.name))
        return Grant(account=vendor.account, id=made.id, key=made.key, sort=sort)

    async def _persist(self, call: Any) -> Any:
        """Ask until it is done: what happened twice by that is a license that nobody knows."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return await asyncio.wait_for(call(), PATIENCE_S)
            except (*UNSURE, LicenseNotFoundError, CatalogError):
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)

    def _of(self, grant: Grant) -> Vendor:
        return next(vendor for vendor in self._vendors if vendor.account == grant.account)


def _told(answer: Granted) -> dict[str, Any]:
    device: Device | None = answer.device
    return {} if device is None else {"told": str(device.id), "generation": device.generation, "state": device.state}


@contextlib.asynccontextmanager
async def open_vendors(settings: Any, writer: Writer, seed: int) -> AsyncIterator[Vendors]:
    """Two vendors with their policies."""
    async with open_resources(settings, application="vendors") as resources:
        vendors = Vendors(resources, [await new_vendor(resources) for _ in range(2)], writer, seed)
        await vendors.add_policies()
        yield vendors

"""Contacts: whether a device that is heard may be told yes without a lock, and so without the ledger.

Redis is asked first. What it does not know, as after it was emptied, is read from Postgres without a lock, for all who
ask at the same time together, is filled in there, and Redis is asked again. So the floor is judged in one place, a
crowd of first contacts costs a few large reads, and whatever is no plain yes then is for the ledger.
"""

from collections.abc import Awaitable, Sequence
from uuid import UUID

from shared.batching import Batcher
from shared.ledger.clock import Clock
from shared.ledger.reader import DeviceRef, LicenseRef, Reader
from shared.licensing.model import Change, Device, DeviceState, License
from shared.seats.projection import Projection, Seen, Standing
from shared.seats.refusals import Asker, Refusals

READ_LIMIT = 500
READ_CAPACITY = 8192


class Contacts:
    """`heard` counts the contacts that were answered yes; whoever answers so raises it."""

    def __init__(self, projection: Projection, refusals: Refusals, reader: Reader, clock: Clock) -> None:
        self._projection = projection
        self._refusals = refusals
        self._reader = reader
        self._clock = clock
        self._reads: Batcher[DeviceRef, bool] = Batcher(
            self._read_all, limit=READ_LIMIT, in_flight=2, capacity=READ_CAPACITY
        )
        self.heard = 0

    def asked(self, ids: bytes, generation: int = 0, counter: int = 0) -> Awaitable[Seen]:
        """What Redis says of the device. What it does not know (`known`) is to be read: see `read`.

        `ids` are those of account, license and device, 16 bytes each. `generation` 0 means whichever is current,
        `counter` 0 that the device counts nothing.
        """
        return self._projection.contact_of(ids, generation, counter)

    def all_asked(self, contacts: Sequence[tuple[bytes, int, int]]) -> Awaitable[list[Seen]]:
        """The same of many at once: (ids, generation, counter) of each."""
        return self._projection.contacts_of(contacts)

    async def read(self, seen: Seen, ids: bytes, generation: int = 0, counter: int = 0) -> Seen:
        """What Redis says of a device that it did not know, once Postgres told it.

        Raises `UnavailableError` and `OverloadedError`.
        """
        if not self._projection.reachable:
            return seen
        ref = UUID(bytes=ids[:16]), UUID(bytes=ids[16:32]), UUID(bytes=ids[32:])
        if self._could_be_yes(seen.standing, (*ref[1:], generation)) and await self._reads.ask(ref):
            return await self._projection.contact_of(ids, generation, counter)
        return seen

    async def seen(self, ids: bytes, generation: int = 0, counter: int = 0) -> Seen:
        """Both at once."""
        seen = await self.asked(ids, generation, counter)
        return seen if seen.known else await self.read(seen, ids, generation, counter)

    def standing(self, ids: bytes) -> Awaitable[Standing | None]:
        """How a license stands by Redis. `ids` are those of account and license, 16 bytes each."""
        return self._projection.standing_of(ids)

    async def license(self, ref: LicenseRef) -> License | None:
        """A license that Redis did not know: it is told."""
        license = await self._reader.license(ref)
        if license is not None:
            await self._projection.fill([Change(license=license, base_version=license.version)])
        return license

    def _could_be_yes(self, standing: Standing | None, asker: Asker) -> bool:
        """Whether Redis might say yes if it knew the device, and Postgres did not just say no."""
        if standing is None:
            return True
        return standing.may_say_yes(self._clock.now_s()) and self._refusals.find(asker, standing.version) is None

    async def _read_all(self, refs: Sequence[DeviceRef]) -> list[bool]:
        """Read devices and fill them in; tells of each whether it holds a seat."""
        found = await self._reader.seats(refs)
        changes: dict[LicenseRef, tuple[License, list[Device]]] = {}
        for ref, seat in zip(refs, found, strict=True):
            if seat is not None:
                _, devices = changes.setdefault(ref[:2], (seat[0], []))
                devices += [device for device in seat[1:] if device is not None]
        await self._projection.fill(
            [
                Change(license=license, base_version=license.version, devices=tuple(devices))
                for license, devices in changes.values()
            ]
        )
        return [seat is not None and seat[1] is not None and seat[1].state is DeviceState.ACTIVE for seat in found]

"""The projection: what Redis reflects of the ledger, shared by all services.

- It may say yes inside the floor; every no is for Postgres to confirm.
- Values are absolute and written only when (epoch, version) is newer, so lost and late pushes do no harm.
- What it does not know, for whatever reason, is None: missing, an older epoch, Redis away.
- What was read from Postgres may be filled in: it changes nothing that is as new, and costs nothing if it is lost.
- A push that is lost may leave an old yes behind. The process that lost it takes nothing from Redis for that license,
  and with the next pulse that finds Redis there removes it.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain, islice
from struct import Struct
from typing import Any, NamedTuple
from uuid import UUID

from shared.batching import Batcher
from shared.licensing.leases import FLOOR_AGE_S, FLOOR_MIN_LEASE_S
from shared.licensing.model import Change, LicenseStatus
from shared.seats import keys
from shared.seats.connection import AWAY, RedisConnection
from shared.seats.node import Ask

REPAIRS_LIMIT = 1000
FLEET_LIMIT = 256
"""As many of a fleet's contacts are one call: Redis serves others between them."""


class Clock:
    """What the projection needs of time: the database's, as seconds since 1970, and the epoch."""

    def __init__(self, *, now_s: Callable[[], float], epoch: Callable[[], int]) -> None:
        self.now_s = now_s
        self.epoch = epoch


class Standing(NamedTuple):
    """A license as Redis reflects it. Times are seconds since 1970; `expires_at_s` is 0 for never."""

    epoch: int
    version: int
    status_and_flags: int
    seats_limit: int
    seats_used: int
    lease_s: int
    offline_grace_s: int
    heartbeat_interval_s: int
    expires_at_s: int

    @property
    def full(self) -> bool:
        return self.seats_used >= self.seats_limit

    @property
    def overage(self) -> bool:
        return self.seats_used > self.seats_limit

    @property
    def versions_ranged(self) -> bool:
        """Whether the policy serves some versions of the application alone."""
        return bool(self.status_and_flags & keys.VERSIONS_RANGED)

    @property
    def hard_end_s(self) -> int:
        """The moment from which nothing goes on; 0 for never."""
        return 0 if self.status_and_flags & keys.EXPIRY_WARNS else self.expires_at_s

    def is_expired(self, now_s: float) -> bool:
        return self.expires_at_s != 0 and now_s >= self.expires_at_s

    def serves(self, now_s: float) -> bool:
        """Whether the license is active, and not at its end at `now_s`."""
        active = keys.STATUSES[self.status_and_flags & keys.STATUS_BITS] is LicenseStatus.ACTIVE
        return active and not (self.hard_end_s and now_s >= self.hard_end_s)

    def may_say_yes(self, now_s: float) -> bool:
        """Whether a contact may be answered without asking Postgres at all."""
        return self.lease_s >= FLOOR_MIN_LEASE_S and not self.versions_ranged and self.serves(now_s)


Contact = tuple[bytes, bytes]
"""A device that was heard: its license's key, and its field with the generation meant and its count."""


class Seen(NamedTuple):
    """What Redis knows of a contact. A `floor_s` is a yes: the lease's end in Postgres, seconds since 1970.

    `known` says that Redis knows the device, and `counter` what it counted to before, where the answer is no yes.
    """

    standing: Standing | None
    generation: int = 0
    floor_s: int | None = None
    known: bool = False
    counter: int = 0


UNKNOWN = Seen(None)

_YES = Struct("<II")
"""generation and floor, as lua/contact.lua tells them."""


class Projection:
    """Reads and writes of licenses in Redis. Those that arrive together go together."""

    def __init__(self, connection: RedisConnection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._missed: Counter[bytes] = Counter()
        self._contacts: Batcher[Contact, Seen] = Batcher(self._contact_all, in_flight=1)
        self._fleets = asyncio.Semaphore(1)
        self._standings: Batcher[bytes, Standing | None] = Batcher(self._standing_all, in_flight=1)

    @property
    def reachable(self) -> bool:
        """Whether Redis answered when it was asked last, in part at least."""
        return self._connection.partly_reachable

    def contact(
        self, account_id: UUID, license_id: UUID, device_id: UUID, generation: int, counter: int = 0
    ) -> Awaitable[Seen]:
        """`contact_of` by the ids themselves."""
        return self.contact_of(account_id.bytes + license_id.bytes + device_id.bytes, generation, counter)

    def contact_of(self, ids: bytes, generation: int, counter: int) -> Awaitable[Seen]:
        """Whether this device may be told yes without asking Postgres. Notes the contact where so.

        `ids` are those of account, license and device, 16 bytes each. `generation` 0 means whichever is current,
        `counter` 0 that the device counts nothing.
        """
        return self._contacts.ask((keys.license_key_of(ids[:32]), keys.pack_contact(ids[32:], generation, counter)))

    async def contacts_of(self, contacts: Sequence[tuple[bytes, int, int]]) -> list[Seen]:
        """`contact_of` for each of a fleet's (ids, generation, counter), in their order.

        Fleets take turns, one call each. A device that is named twice is answered twice.
        """
        seen: list[Seen] = []
        for first in range(0, len(contacts), FLEET_LIMIT):
            some = [
                (keys.license_key_of(ids[:32]), keys.pack_contact(ids[32:], generation, counter))
                for ids, generation, counter in contacts[first : first + FLEET_LIMIT]
            ]
            async with self._fleets:
                seen += await self._contact_all(some)
        return seen

    def standing(self, account_id: UUID, license_id: UUID) -> Awaitable[Standing | None]:
        return self.standing_of(account_id.bytes + license_id.bytes)

    def standing_of(self, ids: bytes) -> Awaitable[Standing | None]:
        """The same by the 32 bytes of both ids."""
        return self._standings.ask(keys.license_key_of(ids))

    async def push(self, changes: Sequence[Change]) -> None:
        """Write what the ledger holds. Licenses for which that fails are unknown here until they are repaired."""
        if self._clock.epoch():
            self._missed.update(await self._write(changes))

    async def fill(self, changes: Sequence[Change]) -> None:
        """Write what was read of Postgres where Redis knew nothing, each change with its own version as its base."""
        if self._clock.epoch():
            await self._write(changes)

    async def _write(self, changes: Sequence[Change]) -> list[bytes]:
        """The names of those that could not be written."""
        if not changes:
            return []
        epoch, names = self._clock.epoch(), _names(changes)

        def arguments(numbers: Sequence[int]) -> list[Any]:
            return list(chain.from_iterable(_change_arguments(epoch, changes[number]) for number in numbers))

        written = await self._connection.call("apply", names, arguments)
        return [names[number] for numbers, answer in written if answer is AWAY for number in numbers]

    async def repair(self) -> None:
        """Remove from Redis the licenses whose pushes were lost, so that every process asks Postgres about them."""
        while missed := dict(islice(self._missed.items(), REPAIRS_LIMIT)):
            names = list(missed)
            removed = await self._connection.ask([(name, _removing(name)) for name in names], now=True)
            gone = {name: missed[name] for name, answer in zip(names, removed, strict=True) if answer is not AWAY}
            self._missed = self._missed - Counter(gone)  # a push that was lost meanwhile stays
            if len(gone) < len(missed):
                return

    async def _contact_all(self, contacts: Sequence[Contact]) -> list[Seen]:
        rules = (self._clock.epoch(), int(self._clock.now_s()), FLOOR_MIN_LEASE_S, FLOOR_AGE_S)

        def arguments(numbers: Sequence[int]) -> list[Any]:
            return [*rules, b"".join([contacts[number][1] for number in numbers])]

        names = [name for name, _ in contacts]
        answers = await self._connection.call_each("contact", names, arguments)
        seen = [_seen(answer) for answer in answers]
        if not self._missed:
            return seen
        return [UNKNOWN if name in self._missed else known for name, known in zip(names, seen, strict=True)]

    async def _standing_all(self, names: Sequence[bytes]) -> list[Standing | None]:
        epoch = self._clock.epoch()
        answers = await self._connection.call_each("standing", names, lambda _: [epoch])
        return [
            None if name in self._missed else _standing_of(answer) for name, answer in zip(names, answers, strict=True)
        ]


def _names(changes: Sequence[Change]) -> list[bytes]:
    return [keys.license_key(change.license.account_id, change.license.id) for change in changes]


def _change_arguments(epoch: int, change: Change) -> list[Any]:
    arguments: list[Any] = [keys.pack_header(epoch, change.license), change.base_version, len(change.devices)]
    for device in change.devices:
        arguments.append(keys.device_field(device.id))
        arguments.append(keys.pack_seat(device) or b"")
    return arguments


def _removing(name: bytes) -> Ask:
    return lambda way: way.unlink(name)


def _standing_of(answer: Any) -> Standing | None:
    return None if answer is AWAY or not answer else Standing._make(keys.unpack_header(answer))


def _seen(answer: Any) -> Seen:
    if answer is AWAY or not answer:
        return UNKNOWN
    size = keys.header_size(answer)
    standing = Standing._make(keys.unpack_header(answer[:size]))
    of_device = answer[size:]
    if len(of_device) == _YES.size:
        generation, floor_s = _YES.unpack(of_device)
        return Seen(standing, generation, floor_s, True)
    if of_device:
        return Seen(standing, known=True, counter=int.from_bytes(of_device, "little"))
    return Seen(standing)

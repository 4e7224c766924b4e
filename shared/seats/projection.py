"""The projection: what Redis reflects of the ledger, shared by all services.

- It may say yes inside the floor; every no is for Postgres to confirm.
- Values are absolute and written only when (epoch, version) is newer, so lost and late pushes do no harm.
- What it does not know, for whatever reason, is None: missing, an older epoch, Redis away.
- A push that is lost may leave an old yes behind. The process that lost it takes nothing from Redis for that license,
  and with the next pulse that finds Redis there removes it.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple
from uuid import UUID

from shared.batching import Batcher
from shared.licensing.leases import FLOOR_AGE_S, FLOOR_MIN_LEASE_S
from shared.licensing.model import Change, LicenseStatus
from shared.seats import keys
from shared.seats.connection import RedisConnection
from shared.seats.scripts import register

REPAIRS_LIMIT = 1000


class Clock:
    """What the projection needs of time: the database's, as seconds since 1970, and the epoch."""

    def __init__(self, *, now_s: Callable[[], float], epoch: Callable[[], int]) -> None:
        self.now_s = now_s
        self.epoch = epoch


class Standing(NamedTuple):
    """A license as Redis reflects it. Times are seconds since 1970; `expires_at_s` is 0 for never."""

    epoch: int
    version: int
    status_index: int
    seats_limit: int
    seats_allowed: int
    seats_used: int
    lease_s: int
    offline_grace_s: int
    heartbeat_interval_s: int
    expires_at_s: int

    @property
    def full(self) -> bool:
        return self.seats_used >= self.seats_limit

    def serves(self, now_s: float) -> bool:
        """Whether the license is active and not expired at `now_s`."""
        active = keys.STATUSES[self.status_index] is LicenseStatus.ACTIVE
        return active and not (self.expires_at_s and now_s >= self.expires_at_s)


class Contact(NamedTuple):
    """A device that was heard: its license's key, and its field with the generation meant (0: whichever is current)."""

    key: bytes
    asked: bytes


class Seen(NamedTuple):
    """What Redis knows of a contact. A `floor_s` is a yes: the lease's end in Postgres, seconds since 1970."""

    standing: Standing | None
    generation: int = 0
    floor_s: int | None = None


UNKNOWN = Seen(None)


class Projection:
    """Reads and writes of licenses in Redis. Those that arrive together go together."""

    def __init__(self, connection: RedisConnection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._missed: Counter[bytes] = Counter()
        scripts = register(connection.client)
        self._contact, self._standing, self._apply = scripts["contact"], scripts["standing"], scripts["apply"]
        self._contacts: Batcher[Contact, Seen] = Batcher(self._contact_all, in_flight=1)
        self._standings: Batcher[bytes, Standing | None] = Batcher(self._standing_all, in_flight=1)

    def contact(self, account_id: UUID, license_id: UUID, device_id: UUID, generation: int) -> Awaitable[Seen]:
        """Whether this device may be told yes without asking Postgres. Notes the contact where so."""
        key = keys.license_key(account_id, license_id)
        return self._contacts.ask(Contact(key, keys.pack_contact(device_id, generation)))

    async def standing(self, account_id: UUID, license_id: UUID) -> Standing | None:
        return await self._standings.ask(keys.license_key(account_id, license_id))

    async def push(self, changes: Sequence[Change]) -> None:
        """Write what the ledger holds. Licenses for which that fails are unknown here until they are repaired."""
        epoch = self._clock.epoch()
        if not changes or not epoch:
            return
        names = [keys.license_key(change.license.account_id, change.license.id) for change in changes]
        arguments: list[Any] = list(chain.from_iterable(_change_arguments(epoch, change) for change in changes))
        if self._connection.resting or await self._connection.attempt(self._apply(names, arguments)) is None:
            self._missed.update(names)

    async def repair(self) -> None:
        """Remove from Redis the licenses whose pushes were lost, so that every process asks Postgres about them."""
        while missed := dict(islice(self._missed.items(), REPAIRS_LIMIT)):
            if await self._connection.attempt(self._connection.client.unlink(*missed)) is None:
                return
            self._missed = self._missed - Counter(missed)  # a push that was lost meanwhile stays

    async def _contact_all(self, contacts: Sequence[Contact]) -> list[Seen]:
        if self._connection.resting:
            return [UNKNOWN] * len(contacts)
        asked = b"".join([contact.asked for contact in contacts])
        arguments: list[int | bytes] = [
            self._clock.epoch(),
            int(self._clock.now_s()),
            FLOOR_MIN_LEASE_S,
            FLOOR_AGE_S,
            asked,
        ]
        answers = await self._connection.attempt(self._contact([contact.key for contact in contacts], arguments))
        if answers is None:
            return [UNKNOWN] * len(contacts)
        seen = [_seen(answer) for answer in answers]
        if not self._missed:
            return seen
        return [
            UNKNOWN if contact.key in self._missed else known for contact, known in zip(contacts, seen, strict=True)
        ]

    async def _standing_all(self, names: Sequence[bytes]) -> list[Standing | None]:
        if self._connection.resting:
            return [None] * len(names)
        answers = await self._connection.attempt(self._standing(names, [self._clock.epoch()]))
        if answers is None:
            return [None] * len(names)
        return [
            None if name in self._missed else _standing_of(answer) for name, answer in zip(names, answers, strict=True)
        ]


def _change_arguments(epoch: int, change: Change) -> list[Any]:
    arguments: list[Any] = [keys.pack_header(epoch, change.license), change.base_version, len(change.devices)]
    for device in change.devices:
        arguments.append(keys.device_field(device.id))
        arguments.append(keys.pack_seat(device) or b"")
    return arguments


def _standing_of(answer: bytes) -> Standing | None:
    return Standing._make(keys.HEADER.unpack_from(answer)) if answer else None


def _seen(answer: bytes) -> Seen:
    if not answer:
        return UNKNOWN
    standing = Standing._make(keys.HEADER.unpack_from(answer))
    if len(answer) == keys.HEADER.size:
        return Seen(standing)
    generation, floor_s, _ = keys.SEAT.unpack_from(answer, keys.HEADER.size)
    return Seen(standing, generation, floor_s)

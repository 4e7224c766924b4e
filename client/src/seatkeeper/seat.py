"""The seat that this device holds, in memory and on disk, and the time that its lease is judged by.

Rules: nothing that came from outside is kept before it is proven; what is on disk is proven again when it is read, for
another process of the application may have written it. The highest time seen goes with every write.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from seatkeeper.cache import Cache, Kept, Refusal
from seatkeeper.errors import NotGenuine, Refused
from seatkeeper.lease import Lease
from seatkeeper.messages import Activated, Alive
from seatkeeper.texts import Sentence
from seatkeeper.trusted_time import TrustedTime

Verify = Callable[[str, float], Lease]
"""What a signed lease says, by the pinned root, at a time; raises `NotGenuine`."""

_log = logging.getLogger("seatkeeper")


class Seat:
    def __init__(self, cache: Cache, time: TrustedTime, verify: Verify) -> None:
        self.cache = cache
        self.time = time
        self._verify = verify
        self.kept = Kept()
        self.lease: Lease | None = None
        self.written_at_s = time.monotonic_s()
        self._is_on_disk = True

    def open(self) -> None:
        """Take up what an earlier run left."""
        self.load()
        self.time.resume(seen_s=self.kept.seen_s, ahead_s=self.kept.ahead_s)
        if self.lease is not None:
            self.time.saw(self.lease.issued_at.timestamp())

    def load(self) -> None:
        """Take what is on disk now, if anything is, and if what is here could be written."""
        kept = self.cache.read() if self._is_on_disk else None
        if kept is None:
            return
        if kept.lease != self.kept.lease:
            self.lease = self._proven(kept.lease)
        self.kept = kept

    @property
    def is_valid(self) -> bool:
        """Whether the device may run on what it holds, whatever the server would say."""
        return self.is_in_time and self.kept.refusal is None and not self.kept.leaving

    @property
    def is_in_time(self) -> bool:
        return self.lease is not None and self.lease.valid_at(self.time.wall_s())

    async def keep(self, **changes: Any) -> None:
        self._change(changes)
        self._is_on_disk = await asyncio.to_thread(self.cache.write, self.kept)

    def keep_at_once(self, **changes: Any) -> None:
        """The same where no thread may be had any more."""
        self._change(changes)
        self._is_on_disk = self.cache.write(self.kept)

    async def take(self, answer: Activated, *, answered_at_s: float) -> None:
        """A seat was granted. Raises `NotGenuine` where its lease does not prove it."""
        lease = self._verify(answer.lease, answered_at_s)
        _must_match(lease, answer.device_id, answer.generation)
        self.lease = lease
        self.time.saw(lease.issued_at.timestamp())
        await self.keep(
            device_id=answer.device_id,
            generation=answer.generation,
            device_token=answer.device_token,
            lease=answer.lease,
            valid_until=lease.valid_until,
            counter=self.kept.counter if answer.device_token == self.kept.device_token else 0,
            last_contact_s=self.time.wall_s(),
            refusal=None,
            intent=None,
            leaving=False,
            released=False,
        )

    async def heard(self, alive: Alive) -> None:
        """A heartbeat was answered, and the answer is genuine."""
        self.told_time(alive.server_time)
        changes: dict[str, Any] = {}
        if alive.lease is not None:
            lease = self._verify(alive.lease, self.time.wall_s())
            _must_match(lease, self.kept.device_id, self.kept.generation)
            self.lease = lease
            changes = {"lease": alive.lease, "valid_until": lease.valid_until}
        await self.keep(last_contact_s=self.time.wall_s(), refusal=None, **changes)

    def told_time(self, genuine: str) -> None:
        self.time.anchor(datetime.fromisoformat(genuine).timestamp())

    async def refused(self, refused: Refused) -> None:
        """The server said no, and it stands until it says yes."""
        reason = refused.members.get("reason")
        refusal = Refusal(code=refused.code, detail=str(refused), reason=reason if isinstance(reason, str) else None)
        await self.keep(refusal=refusal, intent=None)

    async def given_back(self) -> None:
        """The seat is free again: nothing here proves one any more."""
        self.lease = None
        await self.keep(
            lease=None, valid_until=None, device_token=None, refusal=None, intent=None, leaving=False, released=True
        )

    def _change(self, changes: dict[str, Any]) -> None:
        self.written_at_s = self.time.monotonic_s()
        self.kept = replace(self.kept, seen_s=self.time.wall_s(), ahead_s=self.time.ahead_s, **changes)

    def _proven(self, text: str | None) -> Lease | None:
        if text is None:
            return None
        try:
            return self._verify(text, self.time.wall_s())
        except NotGenuine as error:
            _log.warning("the lease that was kept is of no use: %s", error)
            return None


def _must_match(lease: Lease, device_id: str | None, generation: int) -> None:
    if (lease.device_id, lease.generation) != (device_id, generation):
        raise NotGenuine(Sentence("error.answer.other_seat"))

"""Keeps a seat: speaks with the server, and knows at each moment what the application may do.

Rules:
- The server's genuine word goes before all; without one the signed lease decides, by the trusted time.
- One conversation at a time, also among the processes of one device; each begins with what the others have kept.
- A seat that was lost by silence is asked for again once; one that somebody took away is not.
- A seat that was given back by a receipt is none any more, whatever else proves it.
"""

import asyncio
import contextlib
import logging
import random as system_random
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from seatkeeper import standing
from seatkeeper.activation import Activation
from seatkeeper.api import Api
from seatkeeper.cache import Refusal
from seatkeeper.callbacks import Callbacks
from seatkeeper.errors import ConfigurationError, NotGenuine, Refused, SeatkeeperError, Unreachable
from seatkeeper.file_lock import FileLock
from seatkeeper.heartbeat import ATTEMPTS, Heartbeat
from seatkeeper.license_file import LicenseFile
from seatkeeper.messages import Activated, Waiting
from seatkeeper.offline import Offline
from seatkeeper.schedule import Schedule
from seatkeeper.seat import Seat
from seatkeeper.state import State
from seatkeeper.texts import Sentence

LOCK_PATIENCE_S = 60.0
QUICK_ATTEMPTS = 2
SILENCE = frozenset({"idle", "lease_expired"})
STANDING = frozenset(
    {
        "LICENSE_KEY_INVALID",
        "LICENSE_SUSPENDED",
        "LICENSE_EXPIRED",
        "LICENSE_REVOKED",
        "ACCOUNT_DISABLED",
        "DEVICE_LIMIT_EXCEEDED",
        "DEVICE_NOT_ALLOWED",
        "DEVICE_BLOCKED",
    }
)
"""Refusals of an activation that stand for the next start too. Others are about the request or the application."""

_log = logging.getLogger("seatkeeper")


class Keeper:
    def __init__(
        self,
        api: Api,
        seat: Seat,
        offline: Offline,
        ask: Mapping[str, Any],
        *,
        language: str,
        random: Callable[[], float] = system_random.random,
        timeout_s: float,
        activation_timeout_s: float,
    ) -> None:
        self.seat = seat
        self.file: LicenseFile | None = None
        self.schedule = Schedule(seat.time, api.budget, random)
        self._api = api
        self._offline = offline
        self._ask_seat = Activation(api, seat, ask)
        self._beat = Heartbeat(api, seat, ask.get("version"))
        self._by_token = "token" in ask
        self._has_credential = self._by_token or "licenseKey" in ask
        self._wanted = frozenset(ask.get("entitlements") or ())
        self._language = language
        self._timeout_s = timeout_s
        self._activation_timeout_s = activation_timeout_s
        self._is_open = False
        self._turn = asyncio.Lock()
        self._lock = FileLock(seat.cache.path.with_name("state.lock"))
        self._reached = False
        self._waiting = False
        self._returned = False
        self._asked_again = False
        self._refusal: Refusal | None = None
        self.callbacks = Callbacks(self.state)

    # --- What is so ---

    @property
    def state(self) -> State:
        kept = self.seat.kept
        return standing.judge(
            standing.Facts(
                file=self.file,
                refusal=kept.refusal or self._refusal,
                waiting=self._waiting,
                gone=self._returned or kept.released or kept.leaving,
                lease=self.seat.lease,
                reached=self._reached,
                clock_fault=self.seat.time.fault(),
            ),
            self.seat.time.wall_s(),
            self._language,
        )

    @property
    def is_offline(self) -> bool:
        """Whether there is nothing to say to the server: a file runs, or was given back."""
        return self.file is not None or self._returned

    @property
    def next_end_in_s(self) -> float:
        """Seconds until what proves the seat ends, if it has not ended yet."""
        until = self.file.expiry if self.file is not None else self.seat.kept.valid_until
        left_s = until.timestamp() - self.seat.time.wall_s() if until is not None else 0.0
        return left_s if left_s > 0 else float("inf")

    def tell(self) -> None:
        """Call back where the state is another than was told last."""
        self.callbacks.tell(self.state)

    # --- What can be asked of it ---

    def open(self) -> None:
        """Take up what an earlier run left."""
        self._is_open = True
        self.seat.open()
        self.file = self._installed()
        self.callbacks.told = self.state

    async def activate(self) -> State:
        """Take the seat, or go on with what proves it. Raises `Refused`, `Unreachable`, `NotGenuine`."""
        async with self._alone():
            self.file = self._installed()
            if self.file is None:
                await self._activate()
        return self.state

    async def heartbeat(self, *, attempts: int = ATTEMPTS) -> State:
        """Tell the server now, if there is a seat to tell of. Raises `Refused`, `Unreachable`, `NotGenuine`."""
        async with self._alone():
            if not self.is_offline:
                await self._heartbeat(attempts)
        return self.state

    async def release(self, *, deadline_s: float = 30.0) -> State:
        """Give the seat back, if there is one. Raises `Refused` and `Unreachable`."""
        async with self._alone():
            self._waiting = False
            try:
                if self.seat.kept.device_token is not None:
                    await self._beat.leave(deadline_s=deadline_s)
            except Unreachable as error:
                self._failed(error)
                raise
            self.schedule.never()
        return self.state

    async def contact(self) -> None:
        """Say what is due: raises as that does. Where there was no answer before, one try is enough."""
        if self.is_offline:
            return
        if self.seat.kept.leaving:
            await self.release()
        elif self._waiting or self.seat.kept.device_token is not None:
            await self.heartbeat(attempts=1 if self.schedule.failures else ATTEMPTS)
        else:
            await self.activate()

    async def note_time(self) -> None:
        """Keep the highest time seen."""
        async with self._alone():
            await self.seat.keep()

    def look_at_file(self) -> None:
        """Files are installed and given back by other processes too. One that has ended makes way for a seat online."""
        before, self.file = self.file, self._installed()
        if before is not None and self.file is None and not self._returned and self._has_credential:
            self.schedule.next_in(0)

    def close(self) -> None:
        """Note the time; for the end, where no other thread may be had."""
        if self._is_open and self._lock.try_acquire():
            try:
                self.seat.load()
                self.seat.keep_at_once()
            finally:
                self._lock.release()
        self._is_open = False

    # --- How ---

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """One conversation of one process of this device; callbacks hear of what it changed, whatever it raised."""
        time = self.seat.time
        async with self._turn:
            patience_s = time.monotonic_s() + LOCK_PATIENCE_S
            while not self._lock.try_acquire() and time.monotonic_s() < patience_s:
                await time.sleep(0.05)
            try:
                if self._is_open:
                    self.seat.load()
                else:
                    self.open()
                yield
            finally:
                self._lock.release()
                self.tell()

    async def _activate(self) -> None:
        if self.seat.kept.leaving:
            with contextlib.suppress(Refused):  # then the seat is still this device's
                await self._beat.leave(deadline_s=self._timeout_s, attempts=QUICK_ATTEMPTS)
        try:
            await (self._heartbeat_first() if self._goes_on() else self._take_seat())
        except (Unreachable, NotGenuine) as error:
            self._failed(error)
            if self.seat.is_valid and not self._returned:
                return
            refusal = self.seat.kept.refusal
            if refusal is None or not self.seat.is_in_time:
                raise
            raise Refused(refusal.code, status=0, detail=refusal.detail) from error

    def _goes_on(self) -> bool:
        """Whether the seat's own token is the better ticket: one for activation ends, or is used up."""
        kept, lease = self.seat.kept, self.seat.lease
        held = lease is not None and self._wanted <= lease.entitlements.keys()
        return self._by_token and held and kept.device_token is not None and not self._returned

    async def _heartbeat_first(self) -> None:
        try:
            await self._tell_alive(QUICK_ATTEMPTS)
        except Refused as refused:
            if refused.code not in ("LEASE_LOST", "TOKEN_INVALID"):
                await self._refused(refused)
                raise
            await self._take_seat()

    async def _take_seat(self) -> None:
        answer = await self._ask()
        if isinstance(answer, Activated) and self._was_given_back(answer.device_id, answer.generation):
            await self._tell_of_return(answer.device_id)
            answer = await self._ask()
        self._refusal = None
        self._waiting = isinstance(answer, Waiting)
        if isinstance(answer, Waiting):
            await self.seat.keep(device_id=answer.device_id, intent=None, leaving=False, released=False)
            self.schedule.asked_to_wait(answer.retry_after)
            return
        now_s = self._api.last_server_time_s or self.seat.time.wall_s()
        try:
            await self.seat.take(answer, answered_at_s=now_s)
        except NotGenuine:
            await self.seat.keep(intent=None)
            if answer.created:
                await self._beat.hand_back(answer)
            raise
        self._reached, self._returned, self._asked_again = True, False, False
        self.schedule.answered(answer.next_heartbeat_in)
        if abs(now_s - self.seat.time.wall_s()) > standing.CLOCKS_AGREE_S:
            with contextlib.suppress(Unreachable, NotGenuine):
                await self._heartbeat(ATTEMPTS)  # its answer tells the time in a way that can be believed

    async def _ask(self) -> Activated | Waiting:
        if not self._has_credential:
            raise ConfigurationError(Sentence("error.setting.no_credential"))
        quick = self.seat.is_in_time
        try:
            return await self._ask_seat(
                deadline_s=self._timeout_s if quick else self._activation_timeout_s,
                attempts=QUICK_ATTEMPTS if quick else None,
            )
        except Refused as refused:
            await self._refused(refused, stands=refused.code in STANDING)
            raise

    async def _tell_of_return(self, device_id: str) -> None:
        """A receipt that nobody sent would free the seat some day, under a device that runs on it."""
        await self.seat.keep(intent=None)
        receipt = self._offline.receipt_of(device_id)
        if receipt is not None:
            with contextlib.suppress(Refused):
                await self._api.offline_return(receipt.members, keep_seat=True)

    async def _heartbeat(self, attempts: int) -> None:
        try:
            if self._waiting:
                await self._take_seat()
            elif self.seat.kept.device_token is not None:
                await self._tell_alive_or_ask_again(attempts)
        except (Unreachable, NotGenuine) as error:
            self._failed(error)
            raise

    async def _tell_alive_or_ask_again(self, attempts: int) -> None:
        try:
            await self._tell_alive(attempts)
        except Refused as refused:
            if self._asked_again or not _was_silence(refused):
                await self._refused(refused)
                raise
            await self._ask_again()

    async def _tell_alive(self, attempts: int) -> None:
        alive = await self._beat(attempts=attempts)
        self._reached, self._refusal, self._asked_again = True, None, False
        self.schedule.answered(alive.next_heartbeat_in)

    async def _ask_again(self) -> None:
        try:
            await self._take_seat()
        except Refused:
            self._asked_again = True
            raise

    async def _refused(self, refused: Refused, *, stands: bool = True) -> None:
        self._reached, self._waiting = True, False
        self._refusal = Refusal(code=refused.code, detail=str(refused))
        if stands:
            await self.seat.refused(refused)
        self.schedule.answered()
        if self.seat.kept.device_token is None:
            self.schedule.never()

    def _failed(self, error: SeatkeeperError) -> None:
        self._reached = False
        self.schedule.failed(error)

    def _installed(self) -> LicenseFile | None:
        """The file to run on; notes whether what proved the seat until now was given back."""
        proofs = (proof for proof in (self.file, self.seat.lease) if proof is not None)
        given_back = any(self._was_given_back(proof.device_id, proof.generation) for proof in proofs)
        try:
            file = self._offline.installed()
        except OSError as error:
            _log.warning("the license file cannot be read: %s", error.strerror)
            return None
        self._returned = file is None and (given_back or self._returned)
        return file

    def _was_given_back(self, device_id: str, generation: int) -> bool:
        try:
            return self._offline.has_given_back(device_id, generation)
        except OSError as error:
            _log.warning("the receipts cannot be read: %s", error.strerror)
            return False


def _was_silence(refused: Refused) -> bool:
    """Whether the seat was lost because nothing was heard of this device, or nobody knows its token any more."""
    lost = refused.code == "LEASE_LOST" and refused.members.get("reason") in SILENCE
    return lost or refused.code == "TOKEN_INVALID"

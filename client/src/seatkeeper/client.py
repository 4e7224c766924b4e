"""The client of an application: `async with Client(url, license_key=…, product=…, root_key=…) as license:`."""

import asyncio
import logging
import os
import random as system_random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

from seatkeeper import background, features
from seatkeeper.api import Api
from seatkeeper.cache import Cache
from seatkeeper.callbacks import OnChange
from seatkeeper.clock import Clock, SystemClock
from seatkeeper.company import Company
from seatkeeper.errors import ConfigurationError, EntitlementMissing, SeatkeeperError
from seatkeeper.fingerprint import fingerprint as own_fingerprint
from seatkeeper.http import HttpTransport
from seatkeeper.keeper import Keeper
from seatkeeper.lease import Lease, verify_lease
from seatkeeper.license_key import canonical
from seatkeeper.offline import Offline
from seatkeeper.paths import state_directory
from seatkeeper.seat import Seat
from seatkeeper.signatures import read_root_key
from seatkeeper.state import State
from seatkeeper.telling import in_own_language
from seatkeeper.texts import Sentence, language_of
from seatkeeper.transport import Transport
from seatkeeper.trusted_time import TrustedTime

EXIT_S = 5.0
_log = logging.getLogger("seatkeeper")


class Client:
    """Holds a seat for this device while it is open.

    `url` is the license server's; `product` the product's code; `root_key` the account's public root key (its 43
    characters, its JWK, or a file of either), which the application brings along. `license_key` is what the customer
    was given, `token` an activation token instead of it; neither is needed where a license file is installed.

    `version` is the application's, `name` the device's for lists. Without the `entitlements` named here the application
    is of no use: the activation is refused. `release_at_exit` gives the seat back at the end, when no other
    process of the application runs on it. `fingerprint`,
    `directory` (of the cache), `language` (`en`, `zh`), `transport` and `clock` have good defaults; `proxy`, `ca_file`,
    `client_cert` and `client_key` are the network's, see `seatkeeper.http`. `timeout_s` is for one try, and
    `activation_timeout_s` for an activation with all its retries.

    Opening it activates, or goes on with the signed lease on disk while the server is out of reach. It raises `Refused`
    where the server says no, `Unreachable` where there is neither server nor valid lease, and `NotGenuine` where what
    answers is not the vendor's server. For one event loop; `seatkeeper.SyncClient` is for programs without.
    """

    @in_own_language
    def __init__(
        self,
        url: str,
        *,
        product: str,
        root_key: str,
        license_key: str | None = None,
        token: str | None = None,
        version: str | None = None,
        name: str | None = None,
        entitlements: Sequence[str] = (),
        release_at_exit: bool = False,
        fingerprint: str | None = None,
        directory: str | Path | None = None,
        proxy: str | None = None,
        ca_file: str | Path | None = None,
        client_cert: str | Path | None = None,
        client_key: str | Path | None = None,
        language: str | None = None,
        timeout_s: float = 10.0,
        activation_timeout_s: float = 60.0,
        transport: Transport | None = None,
        clock: Clock | None = None,
        random: Callable[[], float] = system_random.random,
    ) -> None:
        self._language = language or language_of(os.environ)
        if license_key and token:
            raise ConfigurationError(Sentence("error.setting.key_and_token"))
        if not product:
            raise ConfigurationError(Sentence("error.setting.no_product"))
        root_public = read_root_key(root_key)
        self.fingerprint = fingerprint or own_fingerprint(product)
        credential = license_key or token
        self.directory = (
            Path(directory)
            if directory is not None
            else state_directory(url, product, credential, fingerprint=self.fingerprint)
        )
        time = TrustedTime(clock or SystemClock())
        proven = partial(_proven, root_public, product, self.fingerprint)
        cache = Cache(self.directory, product=product, secret=self.fingerprint.encode())
        self.offline = Offline(
            self.directory,
            product=product,
            root_public=root_public,
            fingerprint=self.fingerprint,
            name=name,
            version=version,
            clock=time,
            language=self._language,
        )
        self.api = Api(
            transport
            or HttpTransport(url, proxy=proxy, ca_file=ca_file, client_cert=client_cert, client_key=client_key),
            clock=time,
            language=self._language,
            random=random,
            timeout_s=timeout_s,
        )
        self._keeper = Keeper(
            self.api,
            Seat(cache, time, proven),
            self.offline,
            _ask(license_key, token, self.fingerprint, name, version, entitlements),
            language=self._language,
            random=random,
            timeout_s=timeout_s,
            activation_timeout_s=activation_timeout_s,
        )
        self._company = Company(self.directory)
        self._release_at_exit = release_at_exit
        self._background: asyncio.Task[None] | None = None

    # --- Open and close ---

    @in_own_language
    async def __aenter__(self) -> Self:
        self._company.join()
        self._keeper.open()
        try:
            await self._keeper.activate()
        except BaseException:
            await self.close()
            raise
        self._background = asyncio.create_task(background.run(self._keeper), name="seatkeeper")
        features.opened(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop, as the end of the block does; also for a client that was used without one."""
        features.closed(self)
        running, self._background = self._background, None
        try:
            if running is not None:
                running.cancel()
                await asyncio.wait({running})
                if self._release_at_exit and self._company.is_alone():
                    await self._leave()
        finally:
            self._keeper.close()
            self._company.leave()
            await self.api.close()

    # --- What is so ---

    @property
    def state(self) -> State:
        return self._keeper.state

    @property
    def lease(self) -> Lease | None:
        """What the signed lease in hands says; it was verified up to the root key."""
        return self._keeper.seat.lease

    @property
    def entitlements(self) -> Mapping[str, int | None]:
        """What the license covers while it is in force: codes, each with its limit or None."""
        if not self.state.usable:
            return MappingProxyType({})
        proof = self._keeper.file or self.lease
        return MappingProxyType(proof.entitlements if proof is not None else {})

    @property
    def device_id(self) -> str | None:
        """This device's id at the server, as soon as it has one."""
        file = self._keeper.file
        return file.device_id if file is not None else self._keeper.seat.kept.device_id

    @property
    def generation(self) -> int:
        """Which activation of this device it is, from 1 on; 0 before the first."""
        file = self._keeper.file
        return file.generation if file is not None else self._keeper.seat.kept.generation

    @in_own_language
    def require(self, feature: str) -> int | None:
        """The feature's limit, or None where it has none. Raises `EntitlementMissing`."""
        state = self.state
        if not state.usable:
            raise EntitlementMissing(Sentence("error.entitlement.not_in_force", why=state.detail))
        entitlements = self.entitlements
        if feature not in entitlements:
            raise EntitlementMissing(Sentence("error.entitlement.missing", feature=feature))
        return entitlements[feature]

    def on_change(self, callback: OnChange) -> Callable[[], None]:
        """Have `callback(old, new)` called at each change of the state's name or reason; the answer unsubscribes it.

        It runs in the event loop: it must not block. One that raises is logged.
        """
        return self._keeper.callbacks.add(callback)

    def recall(self) -> State:
        """The state by what is on disk alone, without network, for a client that is not open."""
        self._keeper.open()
        return self.state

    # --- What can be done ---

    @in_own_language
    async def activate(self) -> State:
        """Activate again, as after a refusal. Raises as opening does."""
        return await self._keeper.activate()

    @in_own_language
    async def heartbeat(self) -> State:
        """Tell the server now that this device is there. Raises `Refused`, `Unreachable`, `NotGenuine`."""
        return await self._keeper.heartbeat()

    @in_own_language
    async def release(self) -> State:
        """Give the seat back; it is taken again by `activate`.

        Raises `Refused`, and `Unreachable`, after which the next start finds out what became of it.
        """
        return await self._keeper.release()

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(EXIT_S + 1):
                await self._keeper.release(deadline_s=EXIT_S)
        except (SeatkeeperError, TimeoutError) as error:
            _log.warning("the seat could not be given back at the end: %s", error)


def _proven(root_public: bytes, product: str, fingerprint: str, text: str, now_s: float) -> Lease:
    return verify_lease(text, root_public, product=product, fingerprint=fingerprint, now_s=now_s)


def _ask(
    license_key: str | None,
    token: str | None,
    fingerprint: str,
    name: str | None,
    version: str | None,
    entitlements: Sequence[str],
) -> dict[str, Any]:
    """The members of an activation that stay the same."""
    asked: dict[str, Any] = {"fingerprint": fingerprint, "name": name, "version": version}
    if license_key:
        asked["licenseKey"] = canonical(license_key)
    if token:
        asked["token"] = token
    if entitlements:
        asked["entitlements"] = list(entitlements)
    return asked

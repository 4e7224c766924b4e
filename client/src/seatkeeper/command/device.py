"""What this machine holds, as the verbs need it: its seat, its offline files, a client for them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from seatkeeper import private_files
from seatkeeper.cache import Cache, Kept
from seatkeeper.client import Client
from seatkeeper.command.config import Settings
from seatkeeper.command.failures import CommandError, ExitCode
from seatkeeper.command.session import Session
from seatkeeper.fingerprint import fingerprint
from seatkeeper.paths import state_directory
from seatkeeper.system_words import system_words

DEVICE = ("url", "product", "root_key")
"""The settings that a device's files are found and proven by; those of a key or token are in a folder of their own."""

ACTIVATION_S = 60.0
TRY_S = 10.0


class ThisDevice:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.fingerprint = fingerprint(settings.product)
        self.directory = settings.directory or self._usual_directory()
        self.cache = Cache(self.directory, product=settings.product, secret=self.fingerprint.encode())

    def kept(self) -> Kept:
        """What is on disk of the seat; nothing of it is proven."""
        return self.cache.read() or Kept()

    @asynccontextmanager
    async def client(self, session: Session, *, to_look: bool = False) -> AsyncIterator[Client]:
        """The SDK's client with what is on disk, not opened: nothing is sent until it is asked for. Where the folder
        cannot be used, nothing is begun; who comes `to_look` does not write."""
        self._check_folder(to_look=to_look)
        settings = self.settings
        patience_s = session.timeout_s or ACTIVATION_S
        client = Client(
            settings.url,
            product=settings.product,
            root_key=settings.root_key,
            license_key=settings.license_key,
            token=settings.token,
            version=settings.version,
            name=settings.name,
            fingerprint=self.fingerprint,
            directory=self.directory,
            proxy=settings.proxy,
            ca_file=settings.ca_file,
            client_cert=settings.client_cert,
            client_key=settings.client_key,
            language=session.language,
            timeout_s=min(TRY_S, patience_s),
            activation_timeout_s=patience_s,
        )
        client.recall()
        try:
            yield client
        finally:
            await client.api.close()

    def _check_folder(self, *, to_look: bool) -> None:
        try:
            private_files.read(self.cache.path)
            if not to_look:
                private_files.check_writable(self.directory)
        except OSError as error:
            why = system_words(error)
            raise CommandError("failure.folder", ExitCode.MISUSED, folder=self.directory, why=why) from None

    def _usual_directory(self) -> Path:
        credential = self.settings.license_key or self.settings.token
        return state_directory(self.settings.url, self.settings.product, credential, fingerprint=self.fingerprint)

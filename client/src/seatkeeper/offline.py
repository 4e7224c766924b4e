"""Going offline by a file: a request leaves this machine, a license file comes back, a receipt returns the seat.

- The request and the receipt are signed by a key that is made here and stays here.
- A file is installed only when it proves itself by the pinned root, for this product and this device, and is neither
  older than the one that is installed, nor of a generation that was given back: that generation is refused for ever.
- The receipt is kept before the file is removed, so that a machine that stops in between runs on neither; asked again,
  it is the same receipt. The next request brings it along, so that the server makes a file of a new generation even
  where nobody has handed the receipt in, or the seat could not be freed.
- A file's `issued` counts as time seen: a clock that is behind it gains nothing and costs nothing.
"""

import os
from datetime import UTC, datetime
from pathlib import Path

from seatkeeper import base64url, device_key, license_file, private_files
from seatkeeper.clock import Clock, SystemClock
from seatkeeper.errors import ConfigurationError, NotGenuine
from seatkeeper.license_file import FileFault, LicenseFile
from seatkeeper.offline_documents import Document, OfflineRequest, Receipt, make_receipt, make_request
from seatkeeper.offline_faults import OfflineFault
from seatkeeper.receipts import Receipts
from seatkeeper.telling import in_own_language
from seatkeeper.trusted_time import TrustedTime

__all__ = ["Document", "Offline", "OfflineRequest", "Receipt"]

_ID_BYTES = 16


class Offline:
    """What a device holds for working offline, in files of `directory`. `root_public` is the pinned root, 32 bytes."""

    def __init__(
        self,
        directory: Path,
        *,
        product: str,
        root_public: bytes,
        fingerprint: str,
        name: str | None = None,
        version: str | None = None,
        clock: Clock | None = None,
        language: str = "en",
    ) -> None:
        self._key_path = directory / "offline-key.pem"
        self._file_path = directory / "license.json"
        self._receipts = Receipts(directory / "receipts.json")
        self._product = product
        self._root_public = root_public
        self._fingerprint = fingerprint
        self._name = name
        self._version = version
        self._time = clock if isinstance(clock, TrustedTime) else TrustedTime(clock or SystemClock())
        self._language = language

    @in_own_language
    def request(self, days: int | None = None) -> OfflineRequest:
        """A new request, for so many days or for as many as the vendor allows."""
        if days is not None and days < 1:
            raise ConfigurationError(OfflineFault.DAYS)
        installed = self.installed()
        key = device_key.load(self._key_path)
        if key is None:
            if installed is not None:
                raise ConfigurationError(OfflineFault.KEY_GONE)
            key = device_key.create(self._key_path)
        return make_request(
            key,
            product=self._product,
            fingerprint=self._fingerprint,
            id=base64url.encode(os.urandom(_ID_BYTES)),
            created=self._now(),
            name=self._name,
            version=self._version,
            days=days,
            receipt=self._receipts.newest() if installed is None else None,
        )

    @in_own_language
    def install(self, file: bytes) -> LicenseFile:
        """Verify a license file and run on it from now on; NotGenuine says why it cannot be."""
        read = self._proven(file)
        if self._now() >= read.expiry:
            raise NotGenuine(FileFault.EXPIRED)
        if self.has_given_back(read.device_id, read.generation):
            raise NotGenuine(OfflineFault.GIVEN_BACK)
        self._refuse_going_back(read)
        private_files.write(self._file_path, file)
        return read

    def installed(self, now: datetime | None = None) -> LicenseFile | None:
        """The installed file if it is in force at this time, by default the clock's."""
        read = self._kept()
        return read if read is not None and (now or self._now()) < read.expiry else None

    @in_own_language
    def give_back(self) -> Receipt:
        """Disable the installed file here, for ever, and give the receipt for the server."""
        read = self._kept()
        if read is not None:
            self._receipts.add(self._receipt_for(read))
        receipt = self._receipts.newest()
        if receipt is None:
            raise ConfigurationError(OfflineFault.NOTHING_INSTALLED)
        self._file_path.unlink(missing_ok=True)
        return receipt

    def has_given_back(self, device_id: str, generation: int) -> bool:
        """Whether the seat of this generation was given back here: then nothing that proves it counts any more."""
        return self._receipts.cover(device_id, generation)

    def receipt_of(self, device_id: str) -> Receipt | None:
        """The newest receipt that was given for this device id, sent or not."""
        return self._receipts.of(device_id)

    def _receipt_for(self, file: LicenseFile) -> Receipt:
        key = device_key.load(self._key_path)
        if key is None:
            raise ConfigurationError(OfflineFault.KEY_GONE)
        return make_receipt(key, file, self._now())

    def _refuse_going_back(self, read: LicenseFile) -> None:
        installed = self._kept()
        if installed is None:
            return
        if read.device_id != installed.device_id:
            if self._now() < installed.expiry:
                raise NotGenuine(OfflineFault.OTHER_LICENSE)
        elif (read.generation, read.issued) < (installed.generation, installed.issued):
            raise NotGenuine(OfflineFault.OLDER)

    def _kept(self) -> LicenseFile | None:
        """What the file on disk says, ended or not, unless it proves nothing here or was given back."""
        file = private_files.read(self._file_path)
        try:
            read = None if file is None else self._proven(file)
        except NotGenuine:
            return None
        return None if read is None or self.has_given_back(read.device_id, read.generation) else read

    def _proven(self, file: bytes) -> LicenseFile:
        read = license_file.proven(
            file, self._root_public, product=self._product, fingerprint=self._fingerprint, now=self._now()
        )
        self._time.saw(read.issued.timestamp())
        return read

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._time.wall_s(), UTC)

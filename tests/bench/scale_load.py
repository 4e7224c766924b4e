"""What the part `scale` sends: requests about devices and licenses all over one size's data, chosen by chance.

Licenses that get new devices, and devices whose contact has to be committed, are dealt from a shuffled deck: each comes
once before any comes again.
"""

import random
import time
from collections.abc import Iterator
from datetime import timedelta

import msgspec

from shared.licensing.model import device_id
from shared.signing.device_token import DeviceClaims, DeviceTokens
from shared.signing.secrets import MasterSecrets
from tests.bench.data import DUE_EACH, FRESH_EACH, SECRETS, Data, fingerprint, license_key
from tests.bench.licenses import Grant

_HELD = timedelta(days=6, hours=20)


class Load:
    """Bodies for one size. `distinct` asks for licenses that differ, as the first contacts with an emptied Redis do."""

    def __init__(self, data: Data) -> None:
        self._data = data
        self._random = random.Random(data.devices)
        self._tokens = DeviceTokens(MasterSecrets(SECRETS.decoded(), SECRETS.current))
        self._held_until = f"{data.now + _HELD:%Y-%m-%dT%H:%M:%SZ}"
        self._licenses = self._deck(data.licenses)
        self._due = self._deck(data.licenses * DUE_EACH)
        self._new = 0

    def heartbeats(self, count: int, *, distinct: bool = False) -> list[bytes]:
        """Of devices heard within the hour."""
        return [self._heartbeat(one, self._fresh()) for one in self._some(count, distinct=distinct)]

    def due_heartbeats(self, count: int) -> list[bytes]:
        """Of devices not heard for 20 hours."""
        places = (next(self._due) for _ in range(count))
        return [self._heartbeat(place // DUE_EACH, FRESH_EACH + place % DUE_EACH) for place in places]

    def first_heartbeats(self, count: int) -> list[bytes]:
        """Of so many different devices heard within the hour."""
        places = self._random.sample(range(FRESH_EACH * self._data.licenses), count)
        return [self._heartbeat(place // FRESH_EACH, place % FRESH_EACH) for place in places]

    def validations(self, count: int, *, distinct: bool = False) -> list[bytes]:
        return [_json(key=license_key(one)) for one in self._some(count, distinct=distinct)]

    def device_validations(self, count: int, *, distinct: bool = False) -> list[bytes]:
        some = self._some(count, distinct=distinct)
        return [
            _json(key=license_key(one), fingerprint=fingerprint(self._data.ref(one)[1], self._fresh())) for one in some
        ]

    def each_validated(self) -> list[bytes]:
        """One validation of each license."""
        return [
            _json(key=license_key(one))
            for one in self._random.sample(range(self._data.licenses), k=self._data.licenses)
        ]

    def activations(self, count: int) -> list[bytes]:
        """Of new devices."""
        now, first = int(time.time()), self._new
        self._new += count
        return [
            _json(licenseKey=license_key(next(self._licenses)), fingerprint=f"new-{number}", timestamp=now)
            for number in range(first, first + count)
        ]

    def grants(self, count: int) -> list[Grant]:
        numbers = (next(self._licenses) for _ in range(count))
        return [Grant(*self._data.ref(number), license_key(number)) for number in numbers]

    def _heartbeat(self, license: int, number: int) -> bytes:
        account, id = self._data.ref(license)
        device = device_id(id, fingerprint(id, number))
        token = self._tokens.issue(DeviceClaims(account=account, license=id, device=device, generation=1))
        nonce = f"{self._random.getrandbits(64):016x}"
        return _json(deviceToken=token, validUntil=self._held_until, nonce=nonce)

    def _some(self, count: int, *, distinct: bool) -> list[int]:
        everything = range(self._data.licenses)
        return self._random.sample(everything, count) if distinct else self._random.choices(everything, k=count)

    def _fresh(self) -> int:
        return self._random.randrange(FRESH_EACH)

    def _deck(self, size: int) -> Iterator[int]:
        while True:
            yield from self._random.sample(range(size), size)


def _json(**members: object) -> bytes:
    return msgspec.json.encode(members)

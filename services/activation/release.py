"""Giving a seat back: deactivate and reset, by whoever holds the license key. Repeating changes nothing."""

from datetime import datetime
from uuid import UUID

from services.activation.access import Access, Denied
from shared.ledger.ledger import Ledger
from shared.licensing.codes import Code
from shared.licensing.model import Decision, Device, Granted, Refused, Release, Reset


class Releasing:
    def __init__(self, access: Access, ledger: Ledger) -> None:
        self._access = access
        self._ledger = ledger

    async def deactivate(
        self, key: str, device: str, generation: int | None, address: bytes
    ) -> Device | Denied | Refused:
        """Free the device's seat; with `generation`, only if it is still that one's."""
        return await self._submit(Release, key, device, generation, address)

    async def reset(self, key: str, device: str, generation: int | None, address: bytes) -> datetime | Denied | Refused:
        """Free the device's seat and note when its state was cleared; returns that time."""
        answer = await self._submit(Reset, key, device, generation, address)
        if not isinstance(answer, Device):
            return answer
        assert answer.reset_at is not None
        return answer.reset_at

    async def _submit(
        self, command: type[Release] | type[Reset], key: str, device: str, generation: int | None, address: bytes
    ) -> Device | Denied | Refused:
        ref = await self._access.by_key(key, address)
        if isinstance(ref, Denied):
            return ref
        await self._access.admit(ref)
        device_id = _id(device)
        if device_id is None:
            return Refused(code=Code.DEVICE_NOT_FOUND)
        decision: Decision = await self._ledger.submit(
            command(account_id=ref[0], license_id=ref[1], actor="holder", device_id=device_id, generation=generation)
        )
        if isinstance(decision.answer, Granted):
            assert decision.answer.device is not None
            return decision.answer.device
        return decision.answer


def _id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None

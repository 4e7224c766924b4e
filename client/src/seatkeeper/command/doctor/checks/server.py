"""What the server says: the time, the state of the license, its devices, the version, the nodes.

Nothing here takes or gives back a seat, and no fingerprint is sent, so that no lease is extended by looking.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from seatkeeper import license_key
from seatkeeper.api import Api
from seatkeeper.command.doctor.finding import Finding, fail, ok, skip, warn
from seatkeeper.command.doctor.subject import Subject
from seatkeeper.errors import Refused, TransportError, Unreachable
from seatkeeper.messages import Validity
from seatkeeper.transport import Request

SKEW_WARNS_S = 60
SKEW_FAILS_S = 300
"""From there on the server refuses activations (TIMESTAMP_SKEWED)."""

_SET_CLOCK = {
    "Linux": "sudo timedatectl set-ntp true",
    "Darwin": "sudo sntp -sS time.apple.com",
    "Windows": "w32tm /resync",
}


async def answer(subject: Subject) -> Finding:
    """Whether what answers there is a Seatkeeper server: who shows public keys is one."""
    if subject.transport is None:
        return skip("answer", "no-url")
    try:
        found = await subject.transport.send(
            Request(method="GET", path="/.well-known/jwks.json", timeout_s=subject.patience_s)
        )
    except TransportError as error:
        return fail("answer", "none", kind=error.kind, error=error.args[0])
    if b'"keys"' in found.body or "problem+json" in found.headers.get("content-type", ""):
        return ok("answer", status=found.status)
    return fail("answer", "another", status=found.status, url=subject.url)


async def time(subject: Subject) -> Finding:
    """This machine's clock beside the server's, to the second that the `Date` header tells."""

    async def ask(api: Api) -> Finding:
        theirs = await api.server_time()
        if theirs is None:
            return skip("time", "no-date")
        off = round(subject.clock.wall_s() - theirs)
        command = _SET_CLOCK.get(subject.machine.system)
        if abs(off) <= SKEW_WARNS_S:
            return ok("time", seconds=off)
        code = "ahead" if off > 0 else "behind"
        level = fail if abs(off) > SKEW_FAILS_S else warn
        return level("time", code, command, seconds=abs(off), limit=SKEW_FAILS_S)

    return await _asked("time", subject, ask)


async def key(subject: Subject) -> Finding:
    """Format and check character, without the server."""
    if not subject.license_key:
        return skip("key", "no-key")
    fault = license_key.check(subject.license_key)
    prefix = license_key.prefix(subject.license_key)
    return ok("key", prefix=prefix) if fault is None else fail("key", fault.name.lower().replace("_", "-"))


async def license(subject: Subject) -> Finding:
    """Whether the license is in force."""
    key = _usable_key(subject)
    if key is None:
        return skip("license", "no-key")

    async def ask(api: Api) -> Finding:
        validity = await api.validate(key)
        if validity.warning is not None:
            return warn("license", "warning", warning=validity.warning, **_counts(validity))
        if validity.valid or validity.code in _OTHERS:
            return ok("license", **_counts(validity))
        return fail("license", _LICENSE.get(validity.code, "refused"), reason=validity.code)

    return await _asked("license", subject, ask)


_LICENSE = {
    "LICENSE_KEY_INVALID": "unknown",
    "LICENSE_SUSPENDED": "suspended",
    "LICENSE_EXPIRED": "expired",
    "LICENSE_REVOKED": "revoked",
}
_OTHERS = ("DEVICE_LIMIT_EXCEEDED", "VERSION_NOT_SUPPORTED")
"""Refusals that other checks tell of."""


async def devices(subject: Subject) -> Finding:
    """Seats in use, and whether this device could take one."""
    key = _usable_key(subject)
    if key is None:
        return skip("devices", "no-key")

    async def ask(api: Api) -> Finding:
        page = await api.devices(key)
        counts = {"used": page.used, "limit": page.limit}
        ours = [device for device in page.devices if device.fingerprint == subject.fingerprint]
        if ours:
            return ok("devices", "ours", device=ours[0].device_id, state=ours[0].state, **counts)
        if page.used >= page.limit:
            return fail("devices", "full", "seatkeeper devices", **counts)
        return ok("devices", "room", **counts)

    return await _asked("devices", subject, ask)


async def version(subject: Subject) -> Finding:
    """Whether the server serves this version of the application."""
    key = _usable_key(subject)
    if key is None:
        return skip("version", "no-key")

    async def ask(api: Api) -> Finding:
        validity = await api.validate(key, version=subject.version)
        if validity.code == "VERSION_NOT_SUPPORTED":
            return fail("version", "refused" if subject.version else "needed", version=subject.version)
        return ok("version", "ok" if subject.version else "any", version=subject.version)

    return await _asked("version", subject, ask)


async def nodes(subject: Subject) -> Finding:
    """The server's own instances, where it tells of them."""

    async def ask(api: Api) -> Finding:
        found = await api.nodes()
        if found is None:
            return skip("nodes", "not-told")
        listed = [node for node in found.get("nodes", []) if isinstance(node, dict)]
        serving = sum(_is_serving(node) for node in listed)
        counts = {"serving": serving, "all": len(listed)}
        if listed and not serving:
            return fail("nodes", "none-serving", **counts)
        return warn("nodes", "some-not", **counts) if serving < len(listed) else ok("nodes", **counts)

    return await _asked("nodes", subject, ask)


def _is_serving(node: dict[str, Any]) -> bool:
    return any(node.get(member) in (200, "200", "serving", "up") for member in ("status", "state"))


async def _asked(name: str, subject: Subject, ask: Callable[[Api], Awaitable[Finding]]) -> Finding:
    """A server that is out of reach is told of once, by the checks of the network: here it is a reason to skip."""
    api = subject.api()
    if api is None:
        return skip(name, "no-url")
    try:
        async with asyncio.timeout(subject.patience_s):
            return await ask(api)
    except (Unreachable, TimeoutError) as error:
        return skip(name, "out-of-reach", error=str(error.__cause__ or error))
    except Refused as refusal:
        return fail(name, "said-no", reason=refusal.code, error=str(refusal))


def _usable_key(subject: Subject) -> str | None:
    key = subject.license_key
    return key if key and license_key.check(key) is None else None


def _counts(validity: Validity) -> dict[str, Any]:
    return {"used": validity.used, "limit": validity.limit}

"""What this device keeps of its seat, and whether the clock was set back since."""

from pathlib import Path

from seatkeeper.cache import Cache, Kept
from seatkeeper.command.doctor.finding import Finding, fail, ok, skip, warn
from seatkeeper.command.doctor.subject import Subject
from seatkeeper.errors import NotGenuine, SeatkeeperError
from seatkeeper.lease import verify_lease
from seatkeeper.license_file import LicenseFile
from seatkeeper.offline import Offline
from seatkeeper.signatures import read_root_key
from seatkeeper.system_words import system_words
from seatkeeper.telling import sentence
from seatkeeper.trusted_time import TOLERANCE_S

SOON = 0.25
"""So little of a lease's life left means that heartbeats did not come through for most of it."""


async def lease(subject: Subject) -> Finding:
    if subject.directory is None or not subject.fingerprint or not subject.product:
        return skip("lease", "no-directory")
    file = _installed(subject, subject.directory, subject.product, subject.fingerprint)
    if file is not None:
        return ok("lease", "file", until=f"{file.expiry:%Y-%m-%d %H:%M} UTC")
    cache = Cache(subject.directory, product=subject.product, secret=subject.fingerprint.encode())
    try:
        is_there = cache.path.exists()
        kept = cache.peek()
    except OSError as error:
        return fail("lease", "unreadable", path=str(cache.path), error=system_words(error))
    if not is_there:
        return warn("lease", "not-activated", "seatkeeper activate")
    if kept is None:
        return fail("lease", "does-not-open", "seatkeeper activate", path=str(cache.path))
    return _unproven(subject, kept) or _judge(kept, subject.clock.wall_s())


def _installed(subject: Subject, directory: Path, product: str, fingerprint: str) -> LicenseFile | None:
    """The license file that this device runs on, if it is in force."""
    if subject.root_key is None:
        return None
    try:
        root = read_root_key(subject.root_key)
        return Offline(
            directory, product=product, root_public=root, fingerprint=fingerprint, clock=subject.clock
        ).installed()
    except (SeatkeeperError, OSError):
        return None


def _unproven(subject: Subject, kept: Kept) -> Finding | None:
    """The configured root key and product do not stand behind the signed lease."""
    if subject.root_key is None or kept.lease is None or kept.released or kept.refusal is not None:
        return None
    try:
        verify_lease(
            kept.lease,
            read_root_key(subject.root_key),
            product=subject.product or "",
            fingerprint=subject.fingerprint or "",
            now_s=subject.clock.wall_s(),
        )
    except NotGenuine as error:
        return fail("lease", "not-proven", error=sentence(error, subject.language))
    return None


def _judge(kept: Kept, now_s: float) -> Finding:
    if kept.refusal is not None:
        return fail("lease", "refused", "seatkeeper activate", reason=kept.refusal.code, detail=kept.refusal.detail)
    if kept.released or kept.lease is None or kept.valid_until is None:
        return warn("lease", "not-activated", "seatkeeper activate")
    until = f"{kept.valid_until:%Y-%m-%d %H:%M} UTC"
    behind_s = kept.seen_s + kept.ahead_s - now_s
    if behind_s > TOLERANCE_S:
        return fail("lease", "clock-set-back", minutes=round(behind_s / 60), until=until)
    left_s = kept.valid_until.timestamp() - (now_s - kept.ahead_s)
    if left_s <= 0:
        return fail("lease", "ended", "seatkeeper heartbeat", until=until)
    life_s = kept.valid_until.timestamp() - (kept.last_contact_s or 0)
    if kept.last_contact_s is not None and left_s < SOON * life_s:
        return warn("lease", "soon", "seatkeeper heartbeat", until=until)
    return ok("lease", until=until)

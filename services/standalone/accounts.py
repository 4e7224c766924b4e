"""Whom an embedded server runs as, and how its process becomes that: between fork and exec, in the child.

- Root runs servers as `nobody`, or as the owner of the data they already have. Where that user cannot pass a
  folder on the way to the programs or the data, the server keeps CAP_DAC_OVERRIDE and nothing else.
- A process armed with `die_with_parent` never outlives its parent, not even one killed with -9.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path

_NOBODY = 65534
_PR_SET_PDEATHSIG = 1
_PR_SET_SECUREBITS = 28
_SECBIT_NO_SETUID_FIXUP = 4
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522
_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]


@dataclass(frozen=True, kw_only=True)
class Account:
    """Whom a server runs as. `switch` is set when that is not who we are."""

    uid: int
    gid: int
    switch: bool
    keep_dac_override: bool = False


def account_for(data: Path) -> Account:
    if os.geteuid() != 0:
        return Account(uid=os.geteuid(), gid=os.getegid(), switch=False)
    if data.exists() and data.stat().st_uid != 0:
        owner = data.stat()
        return Account(uid=owner.st_uid, gid=owner.st_gid, switch=True)
    return Account(uid=_NOBODY, gid=_NOBODY, switch=True)


def can_reach(account: Account, program: Path, *folders: Path) -> bool:
    """Whether the account passes every folder on the way, by the mode bits; lists (ACLs) are not looked at."""
    ways = {place for path in (program, *folders) for place in (path, *path.parents)}
    return all(_allows(path, account, 0o1) for path in ways) and _allows(program, account, 0o5)


def _allows(path: Path, account: Account, wanted: int) -> bool:
    status = path.stat()
    shift = 6 if status.st_uid == account.uid else 3 if status.st_gid == account.gid else 0
    return (status.st_mode >> shift) & wanted == wanted


def become(account: Account) -> None:
    os.setgroups([])
    os.setresgid(account.gid, account.gid, account.gid)
    if account.keep_dac_override:
        # Without it access(2), with which Postgres looks for its own programs, leaves out capabilities.
        _checked(_libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0))
    os.setresuid(account.uid, account.uid, account.uid)
    if account.keep_dac_override:
        only = 1 << _CAP_DAC_OVERRIDE
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        sets = (ctypes.c_uint32 * 6)(only, only, only, 0, 0, 0)  # effective, permitted, inheritable: low, then high
        _checked(_libc.capset(header, sets))
        _checked(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0))


def _checked(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def die_with_parent(signum: int, parent_pid: int) -> None:
    """Have the kernel send `signum` to this process when its parent ends; at once if it already has."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, int(signum), 0, 0, 0))
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signum)

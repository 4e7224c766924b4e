"""Containers of applications (Docker, containerd, Podman, CRI-O, Kubernetes), and an identity for them.

Rules:
- Neither the machine id nor the hardware tells containers apart: the one is the image's, the other the host's.
- What makes a container the same device over restarts and new versions is the volume that it keeps its state on, so a
  random id is kept there. Its host name is no part of it: each new container has another.
- Where nothing can be written, the host name serves: it lasts as long as the container.
- Containers of whole systems (LXC, systemd-nspawn) have a machine id of their own and count as machines.
"""

import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from seatkeeper import private_files
from seatkeeper.fingerprint.facts import Fact, Stability, known

ID_FILE = "container-id"

_MARKS = (Path(".dockerenv"), Path("run/.containerenv"))
_CGROUP = re.compile(r"/docker[-/][0-9a-f]{12}|/kubepods|/libpod-|/crio-|cri-containerd")
_MOUNTS = re.compile(r"/(docker|containers|containerd|kubelet|io\.containerd[^/]*)/\S+ /etc/(hosts|hostname) ")


def is_container(root: Path, environ: Mapping[str, str]) -> bool:
    if "KUBERNETES_SERVICE_HOST" in environ or any((root / mark).exists() for mark in _MARKS):
        return True
    return bool(
        _CGROUP.search(read(root / "proc/self/cgroup") or "")
        or _MOUNTS.search(read(root / "proc/self/mountinfo") or "")
    )


def container_facts(folder: Path, host_name: str) -> list[Fact]:
    """The id kept in `folder`, made at the first call; of several processes that start at once, all have the same."""
    path = folder / ID_FILE
    try:
        if private_files.read(path) is None:
            private_files.create(path, secrets.token_hex(16).encode())
        return known("kept id", Stability.VOLUME, read(path)) or known("host name", Stability.CONTAINER, host_name)
    except OSError:
        return known("host name", Stability.CONTAINER, host_name)


def read(path: Path) -> str | None:
    """The text of a small file of the system, or None where this user cannot have it."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None

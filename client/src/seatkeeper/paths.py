"""Where this package keeps its files: `$SEATKEEPER_HOME`, or where the platform has such things.

One folder for each server, product, key and device, named by a hash of them: home folders are shared between machines,
and machines between applications.
"""

import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import platformdirs

from seatkeeper.license_key import canonical

APPLICATION = "seatkeeper"


def state_directory(
    url: str,
    product: str,
    credential: str | None,
    *,
    fingerprint: str,
    environ: Mapping[str, str] = os.environ,
) -> Path:
    """The folder of one device's seat; `credential` is the license key or the activation token."""
    told = "\n".join((url.rstrip("/"), product, canonical(credential or ""), fingerprint))
    return state_home(environ) / sha256(told.encode()).hexdigest()[:32]


def config_file(environ: Mapping[str, str] = os.environ) -> Path:
    """The command's configuration: the user's where it exists, else the machine's where that does, else the user's."""
    if named := environ.get("SEATKEEPER_CONFIG"):
        return Path(named)
    if home := environ.get("SEATKEEPER_HOME"):
        return Path(home) / "config.toml"
    user = platformdirs.user_config_path(APPLICATION) / "config.toml"
    site = platformdirs.site_config_path(APPLICATION) / "config.toml"
    return site if os.path.exists(site) and not os.path.exists(user) else user  # also where none may look


def state_home(environ: Mapping[str, str] = os.environ) -> Path:
    """What the folders of all seats are below."""
    home = environ.get("SEATKEEPER_HOME")
    return Path(home) if home else platformdirs.user_state_path(APPLICATION)

"""Instances of clouds, by what their firmware tells every user.

Hardware is no fact there: an instance that is stopped and started stands on another, with other cards at times. The
instance's id is: it tells instances of one image apart, whose machine ids may be the same.
"""

from pathlib import Path

from seatkeeper.fingerprint.containers import read
from seatkeeper.fingerprint.facts import Fact, Stability, known

_DMI = Path("sys/class/dmi/id")
_VENDORS = (
    "amazon ec2",
    "google",
    "digitalocean",
    "hetzner",
    "openstack",
    "alibaba cloud",
    "tencent cloud",
    "scaleway",
    "vultr",
    "linode",
    "akamai",
    "upcloud",
    "exoscale",
    "huawei cloud",
)
_TAGS = ("7783-7084-3265-9085-8269-3286-77", "OracleCloud.com")
"""The chassis asset tags of Azure and Oracle, which name no vendor of their own."""

_AMAZON_INSTANCE = "i-"
_CLOUD_INIT = Path("var/lib/cloud/data/instance-id")


def is_cloud(root: Path) -> bool:
    vendor = (read(root / _DMI / "sys_vendor") or "").strip().lower()
    return vendor.startswith(_VENDORS) or (read(root / _DMI / "chassis_asset_tag") or "").strip() in _TAGS


def instance_facts(root: Path) -> list[Fact]:
    """As Amazon's firmware tells it, or as cloud-init wrote it down when the instance was made."""
    tag = (read(root / _DMI / "board_asset_tag") or "").strip()
    found = tag if tag.startswith(_AMAZON_INSTANCE) else read(root / _CLOUD_INIT)
    return known("cloud instance", Stability.INSTANCE, found)

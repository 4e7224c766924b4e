"""Fingerprints of machines that the tests plant: trees of files as Linux has them, and what other systems tell."""

import re
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import machineid
import pytest

from seatkeeper.errors import ConfigurationError
from seatkeeper.fingerprint import (
    Fact,
    Stability,
    Surroundings,
    Weakness,
    compose,
    facts,
    fingerprint,
    linux,
    macos,
    surroundings,
    weakness,
    windows,
)
from seatkeeper.fingerprint.containers import container_facts
from seatkeeper.fingerprint.facts import known

MACHINE_ID = "3d1219c7c4c5404aaa1f6d2a48adfda4"
ON_BOARD = "e4:54:e8:12:34:56"


class Tree:
    """A root folder with the files of /etc, /proc and /sys that count."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def link(self, path: str, target: str) -> None:
        place, goal = self.root / path, self.root / target
        place.parent.mkdir(parents=True, exist_ok=True)
        goal.mkdir(parents=True, exist_ok=True)
        place.symlink_to(goal)

    def card(self, name: str, address: str, device: str = "pci0000:00/0000:00:1f.6", bus: str = "pci") -> str:
        """A network card; gives its folder in /sys/devices, for more of its files."""
        base = f"sys/devices/{device}"
        self.link(f"sys/class/net/{name}", f"{base}/net/{name}")
        self.link(f"{base}/net/{name}/device", base)
        self.link(f"{base}/subsystem", f"sys/bus/{bus}")
        for file, text in (("address", address), ("type", "1"), ("addr_assign_type", "0")):
            self.write(f"{base}/net/{name}/{file}", f"{text}\n")
        return base

    def disk(self, serial: str = "S4EWNX0R") -> None:
        """An NVMe disk, a partition on it, an encrypted volume in that, mounted as /."""
        disk = "sys/devices/pci0000:00/nvme/nvme0/nvme0n1"
        self.write(f"{disk}/nvme0n1p2/partition", "2\n")
        self.link(f"{disk}/device", "sys/devices/pci0000:00/nvme/nvme0")
        self.write("sys/devices/pci0000:00/nvme/nvme0/serial", f"{serial}      \n")
        self.link("sys/devices/virtual/block/dm-0/slaves/nvme0n1p2", f"{disk}/nvme0n1p2")
        self.link("sys/dev/block/254:0", "sys/devices/virtual/block/dm-0")
        self.mount("254:0", "/dev/mapper/root")

    def mount(self, number: str, source: str) -> None:
        self.write("proc/self/mountinfo", f"27 1 {number} / / rw,relatime shared:1 - ext4 {source} rw\n")

    def fingerprint(self) -> str:
        return compose("app", linux.facts(self.root))

    def names(self) -> list[str]:
        return [fact.name for fact in linux.facts(self.root)]


@pytest.fixture
def bare(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.fixture
def laptop(bare: Tree) -> Tree:
    bare.write("etc/machine-id", f"{MACHINE_ID}\n")
    bare.card("eno1", ON_BOARD)
    bare.disk()
    return bare


# -- what it is made of --------------------------------------------------------------------------------------------


def test_it_is_64_digits_that_another_product_does_not_know(laptop: Tree) -> None:
    made = {compose(product, linux.facts(laptop.root)) for product in ("app", "app2", "other")}
    assert len(made) == 3
    assert all(re.fullmatch("[0-9a-f]{64}", text) for text in made)


def test_the_order_of_facts_does_not_count_and_each_of_them_does() -> None:
    one, two = known("a", Stability.HARDWARE, "bc"), known("b", Stability.HARDWARE, "de")
    assert compose("app", one + two) == compose("app", two + one)
    assert compose("app", known("ab", Stability.HARDWARE, "c")) != compose("app", one)
    assert compose("app", one) != compose("app", one + two)


def test_it_stays_what_it_is_with_new_versions() -> None:
    made = compose("app", [Fact(name="machine id", stability=Stability.INSTALLATION, value=MACHINE_ID)])
    assert made == "cb345ea8adcf57b8848b482f5fd59d9c24ecf411b8e5bcdacdea9afc26866b18"


def test_nothing_raw_shows(laptop: Tree) -> None:
    found = linux.facts(laptop.root)
    assert [str(fact) for fact in found] == [
        "Fact(machine id, lasts until the system is installed anew)",
        "Fact(network card, lasts as long as this hardware)",
    ]
    shown = f"{found!r} {found} {laptop.fingerprint()}"
    assert not any(secret in shown for secret in (MACHINE_ID, "e454e8", "123456", "S4EWNX0R"))


@pytest.mark.parametrize(
    "text", ["", "  ", "\0", "0", "00000000-0000-0000-0000-000000000000", "FFFF:FFFF", "To Be Filled By O.E.M.", "None"]
)
def test_what_makers_write_who_write_nothing_is_no_fact(text: str) -> None:
    assert known("serial", Stability.HARDWARE, text) == []
    assert known("serial", Stability.HARDWARE, "03000200-0400-0500-0006-000700080009") == []


# -- Linux ---------------------------------------------------------------------------------------------------------


def coming_and_going(tree: Tree) -> None:
    tree.card("enx1", "00:e0:4c:68:00:01", "pci0000:00/0000:00:14.0/usb2/2-1", "usb")
    dock = tree.card("enp60s0", "00:50:b6:00:00:02", "pci0000:00/0000:00:07.0/0000:3c:00.0")
    tree.write(f"{dock}/removable", "removable\n")
    wifi = tree.card("wlp2s0", "a4:c3:f0:00:00:03", "pci0000:00/0000:00:01.0")
    tree.write(f"{wifi}/net/wlp2s0/phy80211/name", "phy0")
    virtual_function = tree.card("ens1v0", "b8:ce:f6:00:00:04", "pci0000:00/0000:00:02.0")
    tree.write(f"{virtual_function}/physfn/vendor", "0x15b3")
    tree.card("eth7", "00:15:5d:00:00:05", "vmbus/0000", "vmbus")
    tree.card("eth8", "52:54:00:00:00:06", "pci0000:00/0000:00:01.1")
    for name in ("docker0", "veth12", "br0", "bond0", "tun0", "wg0"):
        tree.write(f"sys/devices/virtual/net/{name}/address", "00:11:22:33:44:55\n")
        tree.link(f"sys/class/net/{name}", f"sys/devices/virtual/net/{name}")


def added_hardware(tree: Tree) -> None:
    tree.card("enp3s0", "00:1b:21:00:00:01", "pci0000:00/0000:00:1c.0/0000:03:00.0")
    tree.disk("another")


def what_root_alone_reads(tree: Tree) -> None:
    for name in ("product_uuid", "product_serial", "board_serial"):
        tree.write(f"sys/class/dmi/id/{name}", "4c4c4544-0042")


def an_update_of_the_firmware(tree: Tree) -> None:
    for name, text in (("bios_version", "1.2"), ("sys_vendor", "Dell Inc."), ("product_name", "Latitude")):
        tree.write(f"sys/class/dmi/id/{name}", text)


def d_bus(tree: Tree) -> None:
    tree.write("var/lib/dbus/machine-id", "c" * 31 + "d\n")


def a_bond(tree: Tree) -> None:
    card = "sys/devices/pci0000:00/0000:00:1f.6/net/eno1"
    tree.write(f"{card}/bonding_slave/perm_hwaddr", f"{ON_BOARD.upper()}\n")
    tree.write(f"{card}/address", "00:11:22:33:44:55\n")
    tree.write(f"{card}/addr_assign_type", "2\n")


@pytest.mark.parametrize(
    "change",
    [coming_and_going, added_hardware, what_root_alone_reads, an_update_of_the_firmware, d_bus, a_bond],
)
def test_what_comes_and_goes_changes_nothing(
    change: Callable[[Tree], None], laptop: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = laptop.fingerprint()
    monkeypatch.setattr(Path, "symlink_to", _anew(Path.symlink_to))
    change(laptop)
    assert laptop.fingerprint() == before


def _anew(link: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
    return lambda place, goal: None if place.is_symlink() else link(place, goal)


def test_what_comes_and_goes_is_no_fact_by_itself_either(bare: Tree) -> None:
    coming_and_going(bare)
    assert linux.hardware(bare.root) == []


def a_new_installation(tree: Tree) -> None:
    tree.write("etc/machine-id", "f" * 31 + "e\n")


def another_board(tree: Tree) -> None:
    tree.write("sys/devices/pci0000:00/0000:00:1f.6/net/eno1/address", "e4:54:e8:65:43:21\n")


@pytest.mark.parametrize("change", [a_new_installation, another_board])
def test_another_installation_or_other_hardware_is_another_device(change: Callable[[Tree], None], laptop: Tree) -> None:
    before = laptop.fingerprint()
    change(laptop)
    assert laptop.fingerprint() != before


def test_a_serial_of_the_board_goes_before_a_card_and_a_card_before_a_disk(bare: Tree) -> None:
    bare.write("var/lib/dbus/machine-id", MACHINE_ID)
    assert bare.names() == ["machine id"]
    bare.disk()
    assert bare.names() == ["machine id", "boot disk serial"]
    bare.card("eth0", ON_BOARD, "soc/fd580000.ethernet", "platform")
    assert bare.names() == ["machine id", "network card"]
    bare.write("proc/cpuinfo", "processor\t: 0\nSerial\t\t: 10000000abcdef01\nModel\t\t: Raspberry Pi 4\n")
    assert bare.names() == ["machine id", "processor serial"]
    bare.write("proc/device-tree/serial-number", "10000000abcdef01\0")
    assert bare.names() == ["machine id", "device tree serial"]


def test_cards_that_the_firmware_numbers_go_before_those_in_slots(bare: Tree) -> None:
    slot = bare.card("enp1s0", "00:1b:21:00:00:01", "pci0000:00/0000:01:00.0")
    before = bare.fingerprint()
    for number, digit in ((2, "c"), (1, "b")):
        board = bare.card(f"eno{number}", f"e4:54:e8:00:00:0{digit}", f"pci0000:00/0000:00:1c.0/0000:09:00.{number}")
        bare.write(f"{board}/acpi_index", f"{number}\n")
    chosen = linux.hardware(bare.root)[0]
    assert chosen.value == "e454e800000b"
    assert bare.fingerprint() != before
    bare.write(f"{slot}/index", "junk")
    assert linux.hardware(bare.root)[0] == chosen


@pytest.mark.parametrize("text", ["", "uninitialized", "0" * 32, "88544b92092430bc5d3fbbffc12a2f04", MACHINE_ID[:-1]])
def test_a_machine_id_that_is_none_or_came_with_an_image_is_no_fact(text: str, laptop: Tree) -> None:
    laptop.write("etc/machine-id", f"{text}\n")
    assert laptop.names() == ["network card"]


def test_a_file_system_over_two_disks_has_no_serial(bare: Tree) -> None:
    bare.disk()
    bare.write("sys/devices/pci0000:01/sdb/device/wwid", "naa.5002538e")
    bare.link("sys/devices/virtual/block/dm-0/slaves/sdb", "sys/devices/pci0000:01/sdb")
    assert bare.names() == []


def test_a_file_system_with_a_number_of_its_own_is_found_by_its_device(bare: Tree) -> None:
    bare.write("sys/devices/pci0000:01/sdb/device/wwid", "naa.5002538e\n")
    bare.write("sys/devices/pci0000:01/sdb/sdb1/partition", "1\n")
    bare.link("sys/class/block/sdb1", "sys/devices/pci0000:01/sdb/sdb1")
    bare.mount("0:30", "/dev/sdb1")
    assert [fact.value for fact in linux.facts(bare.root)] == ["naa.5002538e"]


# -- clouds and containers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("sys_vendor", "Amazon EC2"),
        ("sys_vendor", "Google"),
        ("sys_vendor", "Hetzner"),
        ("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77"),
        ("chassis_asset_tag", "OracleCloud.com"),
    ],
)
def test_in_a_cloud_the_instance_stands_for_the_hardware(file: str, text: str, laptop: Tree) -> None:
    laptop.write(f"sys/class/dmi/id/{file}", f"{text}\n")
    assert surroundings({}, root=laptop.root) is Surroundings.CLOUD
    assert weakness(linux.facts(laptop.root)) is Weakness.CLONES_LOOK_ALIKE
    laptop.write("var/lib/cloud/data/instance-id", "iid-1\n")
    by_cloud_init = linux.facts(laptop.root)
    laptop.write("sys/class/dmi/id/board_asset_tag", "i-0123456789abcdef0\n")
    by_firmware = linux.facts(laptop.root)
    assert [fact.stability for fact in by_firmware] == [Stability.INSTALLATION, Stability.INSTANCE]
    assert [fact.value for fact in (by_cloud_init[1], by_firmware[1])] == ["iid-1", "i-0123456789abcdef0"]
    assert weakness(by_firmware) is None


def test_a_machine_of_ones_own_is_no_cloud(laptop: Tree) -> None:
    laptop.write("sys/class/dmi/id/sys_vendor", "LENOVO\n")
    laptop.write("sys/class/dmi/id/chassis_asset_tag", "Asset-1234\n")
    assert surroundings({}, root=laptop.root) is Surroundings.MACHINE
    assert weakness(linux.facts(laptop.root)) is None


DOCKER = "/docker/4c01db0b339c4c01db0b339c4c01db0b339c4c01db0b339c4c01db0b339c4c01"
HOSTS = "618 604 8:1 {} /etc/hosts rw,relatime - ext4 /dev/sda1 rw\n"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (".dockerenv", ""),
        ("run/.containerenv", ""),
        ("proc/self/cgroup", f"12:pids:{DOCKER}\n"),
        ("proc/self/cgroup", "0::/kubepods.slice/kubepods-besteffort.slice/cri-containerd-4c01.scope\n"),
        ("proc/self/cgroup", "0::/machine.slice/libpod-4c01.scope/container\n"),
        ("proc/self/mountinfo", HOSTS.format("/var/lib/docker/containers/4c01/hosts")),
        ("proc/self/mountinfo", HOSTS.format("/var/lib/kubelet/pods/4c01/etc-hosts")),
    ],
)
def test_containers_are_noticed(path: str, text: str, laptop: Tree) -> None:
    laptop.write(path, text)
    assert surroundings({}, root=laptop.root) is Surroundings.CONTAINER


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("proc/self/cgroup", "0::/system.slice/docker.service\n0::/user.slice/user-1000.slice\n"),
        ("proc/self/cgroup", "0::/lxc.payload.web\n"),
        ("proc/self/mountinfo", "31 1 0:5 / /var/lib/docker/overlay2/4c01/merged rw - overlay overlay rw\n"),
        ("proc/self/mountinfo", HOSTS.format("/etc/netns/vpn/hosts")),
    ],
)
def test_a_host_of_containers_is_none_itself(path: str, text: str, laptop: Tree) -> None:
    laptop.write(path, text)
    assert surroundings({}, root=laptop.root) is Surroundings.MACHINE


def test_a_container_is_the_device_whose_state_it_has(laptop: Tree, tmp_path: Path) -> None:
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "SEATKEEPER_HOME": str(tmp_path / "volume")}
    (only,) = facts(pod, root=laptop.root)
    assert only.stability is Stability.VOLUME
    assert weakness([only]) is Weakness.LASTS_WITH_THE_FOLDER
    assert fingerprint("app", pod, root=laptop.root) == fingerprint("app", pod, root=laptop.root)
    (tmp_path / "volume/container-id").rename(tmp_path / "lost")
    assert facts(pod, root=laptop.root) != [only]
    assert (tmp_path / "volume/container-id").stat().st_mode & 0o077 == 0


def test_without_a_place_to_write_a_container_is_its_host_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    found = container_facts(tmp_path / "file", "4c01db0b339c")
    assert found == known("host name", Stability.CONTAINER, "4c01db0b339c")
    assert weakness(found) is Weakness.LASTS_WITH_THE_CONTAINER


def test_those_who_start_at_once_are_one_device(tmp_path: Path) -> None:
    together = threading.Barrier(8)

    def kept(_: int) -> str:
        together.wait()
        return container_facts(tmp_path, "host")[0].value

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(kept, range(8)))) == 1


def test_a_machine_that_tells_nothing_is_known_by_its_state(bare: Tree, tmp_path: Path) -> None:
    (only,) = facts({"SEATKEEPER_HOME": str(tmp_path / "home")}, root=bare.root)
    assert only.stability is Stability.VOLUME


# -- the variable --------------------------------------------------------------------------------------------------


def test_the_variable_overrides(laptop: Tree) -> None:
    environ = {"SEATKEEPER_FINGERPRINT": " ci-runner-3 "}
    assert fingerprint("app", environ, root=laptop.root) == "ci-runner-3"
    assert [fact.stability for fact in facts(environ, root=laptop.root)] == [Stability.SETTING]


@pytest.mark.parametrize("text", ["", " ", "a\nb", "x" * 257])
def test_a_variable_that_is_no_fingerprint_is_said(text: str) -> None:
    with pytest.raises(ConfigurationError, match="SEATKEEPER_FINGERPRINT"):
        fingerprint("app", {"SEATKEEPER_FINGERPRINT": text})


# -- macOS and Windows: not run there, but fed what they tell ------------------------------------------------------


def test_macos_is_known_by_its_hardware() -> None:
    (only,) = macos.facts(lambda: "17A28A73-BEA9-4D4B-AF5B-03A5AAE9B92C")
    assert only.stability is Stability.HARDWARE
    assert weakness([only]) is None

    def fail() -> str:
        raise machineid.MachineIdNotFound

    assert macos.facts(fail) == []


GUID = "A1B2C3D4-0000-4000-8000-0123456789AB"


def structure(kind: int, formatted: bytes, *strings: bytes) -> bytes:
    ended = b"".join(string + b"\0" for string in strings) or b"\0"
    return struct.pack("<BBH", kind, 4 + len(formatted), kind) + formatted + ended + b"\0"


def table(uuid: bytes, system_serial: bytes = b"5CG1234", board_serial: bytes = b"PFXYZ") -> bytes:
    system = structure(1, b"\1\2\3\4" + uuid + b"\6\0\0", b"Maker", b"Model", b"1.0", system_serial)
    board = structure(2, b"\1\2\3\4", b"Maker", b"Board", b"A", board_serial)
    return structure(0, b"\0\0", b"BIOS") + structure(32, b"\0\0") + system + board + structure(127, b"")


def windows_facts(firmware: bytes) -> list[tuple[str, str]]:
    return [(fact.name, fact.value) for fact in windows.facts(lambda: GUID, lambda: firmware)]


def test_windows_is_known_by_its_guid_and_the_first_number_of_its_hardware() -> None:
    guid = ("machine GUID", GUID.lower())
    uuid = bytes(range(16))
    assert windows_facts(table(uuid)) == [guid, ("system UUID", uuid.hex())]
    assert windows_facts(table(b"\xff" * 16)) == [guid, ("system serial", "5CG1234")]
    assert windows_facts(table(bytes(16), b"System Serial Number")) == [guid, ("board serial", "PFXYZ")]
    assert windows_facts(table(bytes(16), b"None", b"Default string")) == [guid]
    assert windows_facts(b"") == [guid]
    assert [fact.name for fact in windows.facts(lambda: None, lambda: table(uuid))] == ["system UUID"]


def test_a_damaged_table_of_firmware_is_read_as_far_as_it_goes() -> None:
    whole = table(bytes(range(16)))
    for length in range(len(whole)):
        windows_facts(whole[:length])
    assert windows_facts(b"\1\0\0\0" + whole) == [("machine GUID", GUID.lower())]

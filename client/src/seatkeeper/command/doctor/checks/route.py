"""The route towards the server, as far as it shows without rights: source address, interface, MTU, default route."""

import socket
from ipaddress import IPv4Address

import psutil

from seatkeeper.command.doctor.checks.network import addresses, chosen
from seatkeeper.command.doctor.finding import Finding, fail, ok, skip, warn
from seatkeeper.command.doctor.machine import Machine
from seatkeeper.command.doctor.subject import Subject

_ANYWHERE = str(IPv4Address(0))
SMALLEST_MTU = 1280
"""What every link of IPv6 carries (RFC 8200); less is a tunnel that was set up wrongly."""


async def route(subject: Subject) -> Finding:
    if subject.host is None:
        return skip("route", "no-url")
    proxy = chosen(subject).proxy
    host, port = (subject.host, subject.port) if proxy is None else (proxy.host, proxy.port)
    try:
        target = (await addresses(host, port))[0]
    except socket.gaierror:
        return skip("route", "no-name", host=host)
    default = await default_route(subject.machine)
    source = source_address(target, port)
    if source is None:
        return fail("route", "none", _show(subject.machine, target), target=target, default=default or "-")
    interface = interface_of(source)
    mtu = psutil.net_if_stats()[interface].mtu if interface else 0
    known = {"target": target, "source": source, "interface": interface or "?", "mtu": mtu, "default": default or "-"}
    if 0 < mtu < SMALLEST_MTU:
        return warn("route", "small-mtu", _raise_mtu(subject.machine, interface), **known)
    return ok("route", **known)


def source_address(target: str, port: int) -> str | None:
    """The address of ours that the system would speak from; connecting a datagram socket sends nothing."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((target, port))
        except OSError:
            return None
        return str(probe.getsockname()[0])


def interface_of(address: str) -> str | None:
    return next(
        (
            name
            for name, entries in psutil.net_if_addrs().items()
            if any(entry.address.partition("%")[0] == address for entry in entries)
        ),
        None,
    )


async def default_route(machine: Machine) -> str | None:
    """`INTERFACE via GATEWAY` of the IPv4 or IPv6 default route. What macOS and Windows print was not run here."""
    if machine.system == "Linux":
        return _linux_default(machine.text("/proc/net/route") or "", machine.text("/proc/net/ipv6_route") or "")
    if machine.system == "Darwin":
        ran = await machine.run(["route", "-n", "get", "default"])
        lines = dict(line.strip().split(": ", 1) for line in (ran.output if ran else "").splitlines() if ": " in line)
        return f"{lines['interface']} via {lines.get('gateway', '-')}" if "interface" in lines else None
    ran = await machine.run(["route", "print", "-4", _ANYWHERE])
    rows = [line.split() for line in (ran.output if ran else "").splitlines()]
    return next((f"{row[3]} via {row[2]}" for row in rows if len(row) == 5 and row[:2] == [_ANYWHERE] * 2), None)


def _linux_default(ipv4: str, ipv6: str) -> str | None:
    for row in (line.split() for line in ipv4.splitlines()[1:]):
        if len(row) >= 8 and row[1] == row[7] == "00000000":
            return f"{row[0]} via {socket.inet_ntoa(bytes.fromhex(row[2])[::-1])}"
    for row in (line.split() for line in ipv6.splitlines()):
        if len(row) >= 10 and row[0] == "0" * 32 and row[1] == "00" and row[9] != "lo":
            return f"{row[9]} via {socket.inet_ntop(socket.AF_INET6, bytes.fromhex(row[4]))}"
    return None


def _raise_mtu(machine: Machine, interface: str | None) -> str:
    return {
        "Linux": f"sudo ip link set dev {interface} mtu 1500",
        "Darwin": f"sudo ifconfig {interface} mtu 1500",
    }.get(machine.system, f'netsh interface ipv4 set subinterface "{interface}" mtu=1500 store=persistent')


def _show(machine: Machine, target: str) -> str:
    return {"Linux": f"ip route get {target}", "Darwin": f"route -n get {target}"}.get(
        machine.system, f"tracert -d {target}"
    )

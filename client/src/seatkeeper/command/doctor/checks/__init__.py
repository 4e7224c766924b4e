"""What is checked, in the order in which it is told: from this machine outwards, then inwards again."""

from seatkeeper.command.doctor.checks import (
    cache,
    configuration,
    denials,
    fingerprint,
    lease,
    network,
    route,
    server,
    space,
    tls,
    unit,
)
from seatkeeper.command.doctor.finding import Check

CHECKS: dict[str, Check] = {
    "configuration": configuration.configuration,
    "names": network.names,
    "route": route.route,
    "port": network.port,
    "proxy": network.proxy,
    "tls": tls.tls,
    "answer": server.answer,
    "time": server.time,
    "key": server.key,
    "license": server.license,
    "devices": server.devices,
    "version": server.version,
    "nodes": server.nodes,
    "fingerprint": fingerprint.fingerprint,
    "lease": lease.lease,
    "cache": cache.cache,
    "disk": space.disk,
    "memory": space.memory,
    "denials": denials.denials,
    "unit": unit.unit,
}
NETWORK = frozenset({"names", "route", "port", "proxy", "tls", "answer", "nodes"})
"""Those that look at the way to the server."""

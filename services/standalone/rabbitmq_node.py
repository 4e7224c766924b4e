"""How the processes of a private RabbitMQ node are made: their surroundings, settings and first sign of life.

- Everything a node would otherwise look for in the system's folders is named: settings, plugins, data, cookie, pid.
- The server's script becomes the Erlang machine instead of waiting for it, so the machine itself is tied to the
  parent; a shell between them would take the kernel's signal and leave the machine behind.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from services.standalone.accounts import Account, become, die_with_parent
from services.standalone.sites import EmbeddedServerError, Site

USER = "seatkeeper"

_HEADER = b"AMQP\x00\x00\x09\x01"
_METHOD_FRAME = b"\x01"


@dataclass(frozen=True, kw_only=True)
class Ports:
    """All on 127.0.0.1."""

    amqp: int
    distribution: int
    epmd: int


@dataclass(frozen=True, kw_only=True)
class Member:
    """One node among others: its name, the name server and the secret that they share, and settings of its own.

    A lone node has a name server of its own, and makes its secret.
    """

    name: str = "seatkeeper"
    epmd: int | None = None
    cookie: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    erlang_arguments: str = ""


LONE = Member()


def spawn_epmd(site: Site, program: Path, ports: Ports) -> subprocess.Popen[bytes]:
    """The name server of this one node. It outlives the node's restarts, so it does not hold the folder's lock."""
    return _spawn(site, [str(program), "-port", str(ports.epmd), "-address", "127.0.0.1"], {}, ())


def spawn_node(
    site: Site, program: Path, ports: Ports, password: str, member: Member = LONE
) -> subprocess.Popen[bytes]:
    """The Erlang machine with RabbitMQ in it."""
    _write_settings(site.data, ports, password, member)
    command = [str(program), "-noinput", "-start_epmd", "false"]
    return _spawn(site, command, _surroundings(site.data, ports, member), (site.lock,))


def answers(ports: Ports) -> bool:
    """Whether a client that greets is greeted."""
    try:
        with socket.create_connection(("127.0.0.1", ports.amqp), timeout=2) as probe:
            probe.sendall(_HEADER)
            return probe.recv(1) == _METHOD_FRAME
    except OSError:
        return False


def _write_settings(data: Path, ports: Ports, password: str, member: Member) -> None:
    settings = {
        "listeners.tcp.default": f"127.0.0.1:{ports.amqp}",
        "default_user": USER,
        "default_pass": password,
        "disk_free_limit.absolute": "50MB",
        "log.file": "false",
        "log.console": "true",
        **member.settings,
    }
    (data / "rabbitmq.conf").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
    (data / "enabled_plugins").write_text("[].\n")


def _surroundings(data: Path, ports: Ports, member: Member) -> Mapping[str, str]:
    arguments = f"-kernel inet_dist_use_interface {{127,0,0,1}} {member.erlang_arguments}"
    return {
        "HOME": str(data),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(ports.epmd),
        "RABBITMQ_ALLOW_INPUT": "true",  # the way to have the script become the machine
        "RABBITMQ_CONFIG_FILE": str(data / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": os.devnull,
        "RABBITMQ_DIST_PORT": str(ports.distribution),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(data / "enabled_plugins"),
        "RABBITMQ_LOG_BASE": str(data),
        "RABBITMQ_MNESIA_BASE": str(data),
        "RABBITMQ_NODENAME": f"{member.name}@localhost",
        "RABBITMQ_PID_FILE": str(data / "node.pid"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": arguments.strip(),
        **({} if member.cookie is None else {"RABBITMQ_ERLANG_COOKIE": member.cookie}),
    }


def _spawn(
    site: Site, command: list[str], surroundings: Mapping[str, str], descriptors: Sequence[int]
) -> subprocess.Popen[bytes]:
    """Start `command` as the site's account, in a session of its own so that a terminal's Ctrl-C passes it by."""
    output = os.open(site.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    if site.account.switch:
        os.fchown(output, site.account.uid, site.account.gid)
    try:
        return subprocess.Popen(  # noqa: S603 - the programs are the package's, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC", **surroundings},
            pass_fds=descriptors,
            start_new_session=True,
            preexec_fn=_child_setup(site.account),
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedServerError(f"{command[0]} cannot be run: {error}") from error
    finally:
        os.close(output)


def _child_setup(account: Account) -> Callable[[], None]:
    parent_pid = os.getpid()

    def setup() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if account.switch:
            become(account)
        die_with_parent(signal.SIGTERM, parent_pid)  # last: changing the user disarms it

    return setup

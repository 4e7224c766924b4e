"""All ways of a world, in a process of their own: traffic neither waits for the one who breaks things, nor he for it.

The process is told by lines of JSON on its input and answers each on its output; it ends with its input.
Ways are named FROM/TO, as `activation-0/postgres`; who sets a manner names them by a pattern (`*/postgres`).
"""

import asyncio
import os
import signal
import subprocess
import sys
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Self

import msgspec
import uvloop

from services.standalone.accounts import die_with_parent
from tests.faults.distribution import Distribution
from tests.faults.way import HOST, Address, Manner, Way


class Order(msgspec.Struct, kw_only=True):
    """`open` with targets, `behave` with a manner, `cut` with a number of commits, `distribution`, `part` with
    the node's name, `join`."""

    verb: str
    pattern: str = ""
    targets: list[Address] = []
    in_order: bool = False
    manner: Manner = Manner()
    number: int = 0
    obeyed: bool = False


class Report(msgspec.Struct, kw_only=True):
    """`ports` of what was opened; how many ways an order `touched`."""

    ports: dict[str, int] = {}
    touched: int = 0
    trouble: str | None = None


class Ways:
    """The process, from outside. Orders are small and answered at once, so they are waited for."""

    def __init__(self) -> None:
        parent = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.ways"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=lambda: die_with_parent(signal.SIGKILL, parent),
        )

    def open(self, name: str, *targets: Address, in_order: bool = False) -> int:
        """Open a way; returns its port."""
        order = Order(verb="open", pattern=name, targets=list(targets), in_order=in_order)
        return self._give(order).ports[name]

    def open_distribution(self) -> int:
        """Open the name server of an Erlang cluster, whose nodes then reach each other by ways; returns its port."""
        return self._give(Order(verb="distribution")).ports["epmd"]

    def behave(self, pattern: str, manner: Manner, *, or_none: bool = False) -> None:
        touched = self._give(Order(verb="behave", pattern=pattern, manner=manner)).touched
        assert touched or or_none, f"no way is named {pattern}"

    def heal(self) -> None:
        self._give(Order(verb="behave", pattern="*", manner=Manner()))

    def cut(self, pattern: str, commits: int, *, obeyed: bool) -> None:
        order = Order(verb="cut", pattern=pattern, number=commits, obeyed=obeyed)
        assert self._give(order).touched, f"no way is named {pattern}"

    def part(self, node: str) -> None:
        """Cut an Erlang node off from the others, both ways."""
        self._give(Order(verb="part", pattern=node))

    def join(self) -> None:
        self._give(Order(verb="join"))

    def _give(self, order: Order) -> Report:
        to, back = self._process.stdin, self._process.stdout
        assert to is not None
        assert back is not None
        to.write(msgspec.json.encode(order) + b"\n")
        to.flush()
        report = msgspec.json.decode(back.readline(), type=Report)
        if report.trouble is not None:
            raise RuntimeError(f"the ways: {report.trouble}")
        return report

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()


class Keeper:
    """The ways, from inside their process."""

    def __init__(self) -> None:
        self._ways: dict[str, Way] = {}
        self._distribution: Distribution | None = None

    async def obey(self, order: Order) -> Report:
        named = [way for name, way in self._ways.items() if fnmatchcase(name, order.pattern)]
        match order.verb:
            case "open":
                way = Way(order.targets, seed=len(self._ways), in_order=order.in_order)
                await way.open()
                self._ways[order.pattern] = way
                return Report(ports={order.pattern: way.port})
            case "behave":
                for way in named:
                    await way.behave(order.manner)
            case "cut":
                for way in named:
                    way.cut(order.number, obeyed=order.obeyed)
            case "distribution":
                self._distribution = Distribution()
                return Report(ports={"epmd": await self._distribution.open()})
            case "part" | "join":
                assert self._distribution is not None
                self._distribution.part(order.pattern if order.verb == "part" else None)
        return Report(touched=len(named))


async def main() -> None:
    keeper = Keeper()
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        try:
            report = await keeper.obey(msgspec.json.decode(line, type=Order))
        except Exception as error:
            report = Report(trouble=repr(error))
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    uvloop.run(main())
    sys.exit()

__all__ = ["HOST", "Ways"]

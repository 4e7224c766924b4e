"""The networks of the benchmark make the troubles they say, and as often; its figures count what happened."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import repeat
from pathlib import Path
from uuid import UUID

import pytest
from msgspec.structs import replace

from tests.bench import network_way
from tests.bench.network_clients import Outcome
from tests.bench.network_report import BEGIN, END, NAIVE, SDK, draw, found, markdown
from tests.bench.network_way import DECK, NETWORKS, Fate, Line, Network, NetworkWay, fates
from tests.bench.page import fill
from tests.faults.way import HOST

QUICK = Network(name="quick", round_trip_s=0.04, loss=0.0, resets=0, silences=0)
SOON_S = 0.3


@asynccontextmanager
async def way_to_echo(fate: Fate) -> AsyncIterator[tuple[str, int, list[bytes]]]:
    """A way on which every connection has this fate, to a server that answers in capitals and hangs up."""
    heard: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(100))
        writer.write(heard[-1].upper())
        writer.close()

    server = await asyncio.start_server(answer, HOST, 0)
    way = NetworkWay(QUICK, (HOST, server.sockets[0].getsockname()[1]), seed=1)
    way.fates = repeat(fate)
    async with way.opened() as url:
        yield HOST, int(url.rpartition(":")[2]), heard
    server.close()


async def asked(host: str, port: int) -> bytes | None:
    """All that comes back to a word; None for silence."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"word")
    try:
        async with asyncio.timeout(SOON_S):
            return await reader.read()
    except TimeoutError:
        return None
    finally:
        writer.close()


async def test_what_serves_takes_two_round_trips_from_opening_to_answer() -> None:
    async with way_to_echo(Fate.SERVES) as (host, port, heard):
        began = asyncio.get_running_loop().time()
        assert await asked(host, port) == b"WORD"
        assert asyncio.get_running_loop().time() - began >= 2 * QUICK.round_trip_s
        assert heard == [b"word"]


@pytest.mark.parametrize(("fate", "arrived"), [(Fate.RESET_BEFORE, []), (Fate.RESET_AFTER, [b"word"])])
async def test_a_reset_strikes_before_the_request_has_arrived_or_takes_the_answer(
    fate: Fate, arrived: list[bytes]
) -> None:
    async with way_to_echo(fate) as (host, port, heard):
        with pytest.raises(ConnectionResetError):
            await asked(host, port)
        assert [one for one in heard if one] == arrived


@pytest.mark.parametrize(("fate", "arrived"), [(Fate.SILENT_BEFORE, []), (Fate.SILENT_AFTER, [b"word"])])
async def test_a_silence_swallows_the_request_or_the_answer_and_never_ends(fate: Fate, arrived: list[bytes]) -> None:
    async with way_to_echo(fate) as (host, port, heard):
        assert await asked(host, port) is None
        assert [one for one in heard if one] == arrived


@pytest.mark.parametrize(("network", "good"), list(zip(NETWORKS, (0.98, 0.92, 0.74), strict=True)))
def test_of_a_deck_of_connections_as_many_serve_as_is_said(network: Network, good: float) -> None:
    assert network.good == good
    dealt = fates(network, random.Random(7))
    for _ in range(3):
        counts = Counter(next(dealt) for _ in range(DECK))
        assert counts[Fate.SERVES] == round(good * DECK)
        assert counts[Fate.RESET_BEFORE] == counts[Fate.RESET_AFTER] == network.resets / 2
        assert counts[Fate.SILENT_BEFORE] == counts[Fate.SILENT_AFTER] == network.silences / 2


def test_a_line_that_loses_nothing_takes_a_round_trip_to_open_and_half_of_one_for_each_segment() -> None:
    line = Line(QUICK, random.Random(1))
    line.open(10.0)
    assert line.arrives_s(10.0, 100) == pytest.approx(10.06)
    assert line.arrives_s(11.0, 10 * network_way.SEGMENT) == pytest.approx(11.02)


class Losing(random.Random):
    """Loses what its numbers say."""

    def __init__(self, lost: list[bool]) -> None:
        super().__init__(0)
        self._lost = iter(lost)

    def random(self) -> float:
        return 0.0 if next(self._lost, False) else 1.0


def test_a_lost_segment_is_sent_again_ever_later_and_holds_up_those_behind_it() -> None:
    line = Line(replace(QUICK, loss=0.5), Losing([True, True, False, False]))
    assert line.arrives_s(10.0, 2 * network_way.SEGMENT) == pytest.approx(10.02 + 0.24 + 0.48)
    assert line.arrives_s(10.1, 1) == pytest.approx(10.74)


def test_a_lost_handshake_costs_a_second_at_first() -> None:
    line = Line(replace(QUICK, loss=0.5), Losing([True]))
    line.open(10.0)
    assert line.arrives_s(10.0, 1) == pytest.approx(10.0 + 1.0 + 0.04 + 0.02)


# --- What is made of it -----------------------------------------------------------------------------------------

HERE, THERE = UUID(int=1), UUID(int=2)


def outcomes(license: UUID, *, good: int, lost: int) -> list[Outcome]:
    return [Outcome(license, 1.0 + number, 2, None) for number in range(good)] + [
        Outcome(license, 10.0, 1, "timeout") for _ in range(lost)
    ]


def test_figures_tell_successes_by_license_and_the_seats_that_were_left_behind() -> None:
    tried = outcomes(HERE, good=4, lost=0) + outcomes(THERE, good=3, lost=1)
    row = found(QUICK, NAIVE, tried, {HERE: 4, THERE: 4, UUID(int=3): 9})

    assert (row.activations, row.succeeded, row.least_share, row.greatest_share) == (8, 7, 0.75, 1.0)
    assert (row.median_s, row.p95_s, row.max_s) == (2.0, 4.0, 4.0)
    assert (row.attempts, row.most_attempts) == (15 / 8, 2)
    assert (row.devices, row.seats_used, row.left_behind, row.most_over) == (8, 8, 1, 0)
    assert row.failures == {"timeout": 1}


@pytest.mark.parametrize(("lost", "met"), [(0, True), (1, True), (2, False)])
def test_the_sdk_fails_at_most_once_in_a_thousand(lost: int, met: bool) -> None:
    tried = outcomes(HERE, good=1000 - lost, lost=lost)
    assert found(QUICK, SDK, tried, {HERE: 1000}).met is met


def test_one_seat_more_than_devices_is_missed_whoever_takes_it() -> None:
    tried = outcomes(HERE, good=10, lost=0) + outcomes(THERE, good=10, lost=0)
    for client in (NAIVE, SDK):
        assert found(QUICK, client, tried, {HERE: 10, THERE: 10}).met
        assert not found(QUICK, client, tried, {HERE: 9, THERE: 11}).met


@pytest.mark.parametrize(("good", "met"), [(71, False), (73, True), (75, True), (77, False)])
def test_a_network_that_is_not_as_bad_as_meant_is_missed(good: int, met: bool) -> None:
    network = NETWORKS[-1]
    row = found(network, NAIVE, outcomes(HERE, good=good, lost=100 - good), {HERE: 100})
    assert row.met is met


def test_a_document_shows_a_row_for_each_network_and_client(tmp_path: Path) -> None:
    rows = [found(QUICK, client, outcomes(HERE, good=4, lost=0), {HERE: 4}) for client in (NAIVE, SDK)]
    document = tmp_path / "page.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    fill(document, markdown({"cores": 2}, rows), begin=BEGIN, end=END)
    lines = document.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert "old" not in lines
    assert [line.split(" | ")[:4] for line in lines if line.startswith("| quick")] == [
        ["| quick 40 ms", client, "4", f"{share}.00%"] for client, share in ((NAIVE, 100), (SDK, 100))
    ]


def test_a_plot_is_drawn_also_of_one_client_alone(tmp_path: Path) -> None:
    draw([found(QUICK, SDK, outcomes(HERE, good=4, lost=0), {HERE: 4})], [tmp_path / "images"])
    assert (tmp_path / "images" / "networks.png").read_bytes().startswith(b"\x89PNG")

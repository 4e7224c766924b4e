"""What a program without a loop may do to its client: none of it may hang, nor leave anything behind."""

import asyncio
import multiprocessing
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import seatkeeper
from seatkeeper.clock import SystemClock
from seatkeeper.file_lock import FileLock
from seatkeeper.state import Name
from seatkeeper.transport import Request, Response
from shared.signing import base64url
from tests.unit.client.played import PlayedClock
from tests.unit.client.signed import FINGERPRINT, NOW, PRODUCT, ROOT
from tests.unit.client.vendor import Server


class NearNow(SystemClock):
    """Runs as the machine's, at the time that the vectors are signed for."""

    def wall_s(self) -> float:
        return NOW.timestamp() + time.monotonic() % 3600


class Swallowing(Server):
    """Takes what it is sent and says nothing, where `swallows`; calls `when_heard` first."""

    swallows = False

    def __init__(self) -> None:
        super().__init__(PlayedClock(NOW.timestamp()))
        self.when_heard: Callable[[], object] = threading.Event().set

    async def send(self, request: Request) -> Response:
        self.when_heard()
        if self.swallows:
            await asyncio.sleep(3600)
        return await super().send(request)


def client(folder: Path, server: Server, **options: Any) -> seatkeeper.SyncClient:
    return seatkeeper.SyncClient(
        "https://licenses.example",
        product=PRODUCT,
        root_key=base64url.encode(ROOT.public).decode(),
        license_key="a key of sixteen characters",
        fingerprint=FINGERPRINT,
        directory=folder,
        transport=server,
        clock=NearNow(),
        language="en",
        **options,
    )


def test_closing_it_frees_a_thread_that_waits_for_it(tmp_path: Path) -> None:
    server, heard, said = Swallowing(), threading.Event(), []
    license = client(tmp_path, server).open()
    server.swallows, server.when_heard = True, heard.set

    def work() -> None:
        with pytest.raises(RuntimeError, match="closed") as raised:
            license.heartbeat()
        said.append(raised.value)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    assert heard.wait(5)
    license.close()
    worker.join(5)
    assert said


def test_opening_it_may_be_interrupted(tmp_path: Path) -> None:
    server, main = Swallowing(), threading.main_thread().ident
    assert main is not None
    license = client(tmp_path, server)
    server.swallows = True
    server.when_heard = lambda: signal.pthread_kill(main, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        license.open()
    assert "seatkeeper" not in {thread.name for thread in threading.enumerate()}
    for name in ("state.lock", "state.user-0.lock"):
        lock = FileLock(tmp_path / name)
        assert lock.try_acquire()
        lock.release()
    server.swallows, server.when_heard = False, lambda: None
    with license:
        assert license.state.name is Name.ACTIVE


def test_a_callback_that_wants_to_end_the_program_does_not_end_the_client(tmp_path: Path) -> None:
    server = Swallowing()
    with client(tmp_path, server) as license:
        license.on_change(lambda _old, _new: sys.exit(1))
        server.away = True
        with pytest.raises(seatkeeper.Unreachable):
            license.heartbeat()
        server.away = False
        assert license.heartbeat().name is Name.ACTIVE


def test_it_rests_when_it_is_opened_again(tmp_path: Path) -> None:
    license = client(tmp_path, Swallowing())
    for _ in range(2):
        with license:
            before_s = time.process_time()
            time.sleep(0.2)
            assert time.process_time() - before_s < 0.1


def _in_a_child(license: seatkeeper.SyncClient) -> None:
    with pytest.raises(RuntimeError, match="not open"):
        license.heartbeat()
    assert license.state.usable
    license.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no forks")
def test_a_fork_ends_and_leaves_the_seat_to_its_parent(tmp_path: Path) -> None:
    server = Swallowing()
    with client(tmp_path, server) as license:
        child = multiprocessing.get_context("fork").Process(target=_in_a_child, args=(license,), daemon=True)
        child.start()
        child.join(5)
        assert child.exitcode == 0
        assert license.heartbeat().name is Name.ACTIVE


def test_a_lock_is_free_though_a_fork_knows_it(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    assert lock.try_acquire()
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
    child.start()
    try:
        lock.release()
        assert FileLock(tmp_path / "lock").try_acquire()
    finally:
        child.kill()
        child.join()

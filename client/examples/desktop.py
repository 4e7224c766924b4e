"""A desktop program under a license: the client lives in a thread, the window never waits for it.

    python desktop.py

No toolkit is used here: `loop` stands for the event loop of one, and its queue for what brings an event into it, such
as `QMetaObject.invokeMethod`, `root.event_generate` or `GLib.idle_add`. Windows are touched by the loop's thread alone.
"""

import os
import queue
import sys
import threading
from collections.abc import Callable

import seatkeeper

# The first three are constants of a real program: the root key is what makes a forged server useless.
URL = os.environ.get("SEATKEEPER_URL", "http://127.0.0.1:8080")
PRODUCT = os.environ.get("SEATKEEPER_PRODUCT", "demo-app")
ROOT_KEY = os.environ["SEATKEEPER_ROOT_KEY"]
LICENSE_KEY = os.environ.get("SEATKEEPER_LICENSE_KEY")

Event = Callable[["Window"], None]
"""What the window's thread is to do next."""


class Window:
    """What the user sees. Everything here runs in the thread of the loop."""

    def __init__(self) -> None:
        self.open = True

    def show(self, state: seatkeeper.State) -> None:
        """A line at the foot of the window; what needs a license is greyed while the state is not usable."""
        print(f"ready: {state}" if state.usable else f"locked: {state.detail}", flush=True)

    def complain(self, error: seatkeeper.SeatkeeperError) -> None:
        """A box with the advice, and a button to try again."""
        print(f"locked: {error}", flush=True)

    def close(self) -> None:
        self.open = False


def license_thread(events: "queue.Queue[Event]", closing: threading.Event) -> None:
    """Opens the client, which may take a while, and keeps it until the window closes."""
    client = seatkeeper.SyncClient(URL, product=PRODUCT, root_key=ROOT_KEY, license_key=LICENSE_KEY)
    client.on_change(lambda _old, new: events.put(lambda window: window.show(new)))  # called in a thread of the client
    try:
        with client:
            closing.wait()
    except seatkeeper.SeatkeeperError as error:
        refusal = error
        events.put(lambda window: window.complain(refusal))


def commands(events: "queue.Queue[Event]") -> None:
    """Stands for the user: `quit`, or the end of the input, closes the window."""
    for line in sys.stdin:
        if line.strip() == "quit":
            break
    events.put(Window.close)


def loop(events: "queue.Queue[Event]") -> None:
    """The event loop, which never calls the client."""
    window = Window()
    while window.open:
        events.get()(window)


def main() -> int:
    events: queue.Queue[Event] = queue.Queue()
    closing = threading.Event()
    licensing = threading.Thread(target=license_thread, args=(events, closing))
    licensing.start()
    threading.Thread(target=commands, args=(events,), daemon=True).start()
    loop(events)
    closing.set()
    licensing.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())

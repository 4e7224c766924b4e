"""How many may wait of a server whose speed is known only from what it has done: as many as it serves in a given time.

That is Little's law: so many in it, divided by its rate, is how long each is in it. What a rate is learned from:

- A batch served slowly tells it, unless it was so small that the time may not lie in its size.
- A batch served quickly tells the least that it may be: nothing is refused by a server that was never slow.
"""

LEAST = 64
"""So many are taken of the slowest server too: without a batch of some size nothing would show that it recovered."""


class Pace:
    """`room` is how many may be there at a time, waiting or being served."""

    def __init__(self, *, wait_s: float, most: int) -> None:
        self._wait_s = wait_s
        self._slow_s = wait_s / 5
        self._least = min(LEAST, most)
        self._most = most
        self.room = most

    def saw(self, count: int, seconds: float, *, abreast: int) -> None:
        """A batch of `count` took `seconds`, one of `abreast` that are served at a time."""
        room = abreast * count * self._wait_s / max(seconds, 1e-6)
        if room > self.room or (seconds > self._slow_s and count >= self._least // 2):
            self.room = max(self._least, min(int(room), self._most))

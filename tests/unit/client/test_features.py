"""`seatkeeper.require` asks the client that was opened last."""

import pytest

import seatkeeper
from seatkeeper import features


class Licensed:
    def __init__(self, limit: int) -> None:
        self._limit = limit

    def require(self, feature: str) -> int | None:
        return self._limit


def test_the_client_that_was_opened_last_is_asked() -> None:
    one, two = Licensed(1), Licensed(2)
    with pytest.raises(seatkeeper.EntitlementMissing, match=r"open a seatkeeper\.Client"):
        seatkeeper.require("export")
    features.opened(one)
    features.opened(two)
    assert seatkeeper.require("export") == 2
    features.closed(two)
    assert seatkeeper.require("export") == 1
    features.closed(one)
    features.closed(one)
    with pytest.raises(seatkeeper.EntitlementMissing):
        seatkeeper.require("export")

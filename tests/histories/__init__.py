"""Whole lives, played under a clock that the test sets: of one license, and of a fleet through a year."""

import pytest

pytest.register_assert_rewrite(*(f"tests.histories.{name}" for name in ("fleet", "life", "oracle", "real", "replay")))

"""Lengths of time and ends of licenses as an operator writes them."""

from datetime import UTC, datetime

import pytest

from services.portal.durations import LONGEST_S, duration_s, expiry, written


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3600", 3600),
        ("30s", 30),
        ("10m", 600),
        ("12h", 43_200),
        ("90d", 7_776_000),
        (" 1d ", 86_400),
        ("3650d", LONGEST_S),
    ],
)
def test_a_duration_is_read_as_seconds(text: str, expected: int) -> None:
    assert expected == duration_s(text)


@pytest.mark.parametrize("text", ["", "d", "1w", "1.5h", "-1d", "1 d", "1h30m", "٣d", "0", "0d", "3651d", "9" * 30])
def test_what_is_no_duration_is_refused_by_a_text_that_repeats_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"write 90d|between one second and ten years") as refused:
        duration_s(text)
    assert repr(text) in str(refused.value)


@pytest.mark.parametrize("text", ["1s", "61s", "10m", "36h", "90d", "3650d"])
def test_a_duration_is_written_as_it_is_read(text: str) -> None:
    assert text == written(duration_s(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2027-01-31", datetime(2027, 2, 1, tzinfo=UTC)),
        ("2028-02-29", datetime(2028, 3, 1, tzinfo=UTC)),
        ("2027-01-31T12:00:00Z", datetime(2027, 1, 31, 12, tzinfo=UTC)),
        ("2027-01-31t12:00:00.5z", datetime(2027, 1, 31, 12, 0, 0, 500_000, tzinfo=UTC)),
        ("2027-01-31 12:00:00+02:00", datetime(2027, 1, 31, 10, tzinfo=UTC)),
    ],
)
def test_an_expiry_is_the_end_of_a_day_or_a_moment(text: str, expected: datetime) -> None:
    assert expected == expiry(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tomorrow",
        "2027",
        "20270131",
        "2027-02-30",
        "2027-W05-7",
        "2027-01-31T12:00:00",
        "2027-01-31T25:00:00Z",
        "31.01.2027",
        "9999-12-31",
        "9999-12-31T23:59:59-14:00",
    ],
)
def test_what_is_no_expiry_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write 2027-01-31") as refused:
        expiry(text)
    assert repr(text) in str(refused.value)

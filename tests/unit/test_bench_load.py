"""A run of wrk counts only if every answer was what it should be."""

import pytest

from tests.bench.load import read

OUTPUT = """\
Running 4s test @ http://127.0.0.1:20000/v1/heartbeat
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     5.43ms    1.02ms  21.11ms   91.28%
    Req/Sec    11.80k   661.21    12.79k    70.00%
  Latency Distribution
     50%    5.21ms
     75%    5.60ms
     90%    6.16ms
     99%   {p99}
  46953 requests in 4.00s, 21.72MB read
{more}Requests/sec:  11735.74
Transfer/sec:      5.43MB
"""


@pytest.mark.parametrize(("p99", "ms"), [("830.00us", 0.83), ("9.97ms", 9.97), ("1.20s", 1200.0)])
def test_what_wrk_printed_is_read(p99: str, ms: float) -> None:
    run = read(OUTPUT.format(p99=p99, more=""))
    assert run is not None
    assert (run.rate, run.requests) == (11735.74, 46953)
    assert run.p99_ms == pytest.approx(ms)


@pytest.mark.parametrize(
    "trouble",
    [
        "  Non-2xx or 3xx responses: 1\n",
        "  Socket errors: connect 0, read 3, write 0, timeout 0\n",
        "Wrong answers: 2\n",
    ],
)
def test_a_run_with_another_answer_does_not_count(trouble: str) -> None:
    assert read(OUTPUT.format(p99="9.97ms", more=trouble)) is None


def test_where_all_are_to_be_refused_one_that_was_not_spoils_the_run() -> None:
    assert read(OUTPUT.format(p99="9.97ms", more="  Non-2xx or 3xx responses: 46953\n"), refused=True) is not None
    assert read(OUTPUT.format(p99="9.97ms", more="  Non-2xx or 3xx responses: 46952\n"), refused=True) is None
    assert read(OUTPUT.format(p99="9.97ms", more=""), refused=True) is None


def test_what_is_no_outcome_does_not_count() -> None:
    assert read("unable to connect to 127.0.0.1:20000 Connection refused\n") is None

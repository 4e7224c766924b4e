"""The open-loop load: when requests are due, what they are, and how answers are read."""

from itertools import islice, pairwise

import pytest

from tests.bench.open_loop import Answers, arrivals, percentile, requests

URL = "http://127.0.0.1:20000/v1/activate"
ANSWER = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


def test_a_percentile_is_one_of_the_figures() -> None:
    figures = [float(number) for number in range(1, 1001)]
    assert [percentile(figures, part) for part in (0.5, 0.99, 0.999, 1.0)] == [500, 990, 999, 1000]
    assert percentile([7.0], 0.001) == percentile([7.0], 0.999) == 7.0


def test_arrivals_come_by_chance_at_the_rate_and_are_the_same_for_the_same_seed() -> None:
    moments = list(arrivals(1000, 20, seed=1))
    assert moments == list(arrivals(1000, 20, seed=1))
    assert moments != list(arrivals(1000, 20, seed=2))
    assert len(moments) == pytest.approx(20_000, rel=0.03)
    assert moments[-1] < 20
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert deviation == pytest.approx(mean, rel=0.05)  # as of an exponential distribution, and of no other


def test_requests_go_round_the_bodies_with_numbers_that_never_repeat() -> None:
    bodies = [b'{"fingerprint":"@N@","timestamp":@NOW@}', b'{"key":"plain"}']
    sent = [one.partition(b"\r\n\r\n") for one in islice(requests(URL, bodies, run="0123456789"), 6)]
    for head, _, body in sent:
        assert head.startswith(b"POST /v1/activate HTTP/1.1\r\nHost: 127.0.0.1:20000\r\n")
        assert f"Content-Length: {len(body)}".encode() in head
        assert b"@" not in body
    assert [body for _, _, body in sent[1::2]] == [b'{"key":"plain"}'] * 3
    assert len({body for _, _, body in sent[::2]}) == 3


def test_an_answer_is_told_once_it_is_whole() -> None:
    for cut in range(1, len(ANSWER)):
        answers = Answers()
        assert answers.feed(ANSWER[:cut]) is None
        assert answers.feed(ANSWER[cut:]) == 201
        assert answers.feed(ANSWER.replace(b"201", b"503")) == 503


@pytest.mark.parametrize("wrong", [ANSWER + b"x", ANSWER.replace(b"Content-Length: 2", b"Connection: close")])
def test_what_is_no_answer_is_said_so(wrong: bytes) -> None:
    with pytest.raises(ValueError, match=r"length|more"):
        Answers().feed(wrong)

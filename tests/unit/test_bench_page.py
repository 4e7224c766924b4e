"""The page of a benchmark: every row, its plots, and nothing that lies elsewhere."""

import re
from pathlib import Path

import pytest
from matplotlib.patches import Rectangle

from tests.bench.page import BEGIN, END, cells, fill, markdown, number, page, plots
from tests.bench.results import Target, compared, measured

ROWS = [
    compared("/v1/heartbeat", [(70.0, 100.0)], unit="requests/s", against="bare", target=Target(gate=0.7, aim=0.8)),
    compared("memory <each>", [(60.0, 50.0)], unit="bytes", against="small", target=Target(gate=1, aim=1, most=True)),
    *(
        measured(f"heartbeat at {load} of the peak: {part}", [figure], unit="ms")
        for load in ("50%", "90%")
        for part, figure in (("p50", 1.0), ("p99", 5.0), ("p99.9", 9.0))
    ),
    *(measured(f"heartbeat: CPU of {who}", [40.0], unit="µs a request") for who in ("service", "Redis")),
]


def test_a_row_says_how_its_target_was_met() -> None:
    assert [cells(row)[-1] for row in ROWS[:3]] == ["gate", "missed", ""]
    assert cells(ROWS[0]) == (
        *("/v1/heartbeat", "70", "requests/s", "bare", "100", "0.7", "0.7-0.7", "0.7", "0.8"),
        "gate",
    )


def test_figures_are_shown_with_as_many_digits_as_tell() -> None:
    assert [number(figure) for figure in (0.03456, 1.2345, 99.9, 12_345.6, None)] == [
        *("0.0346", "1.23", "99.9", "12,346"),
        "",
    ]


def test_a_plot_is_drawn_where_there_are_rows_for_it() -> None:
    assert list(plots(ROWS)) == ["targets", "latency", "cpu"]
    assert list(plots(ROWS[:1])) == ["targets"]
    assert plots([]) == {}


def test_where_more_of_the_gate_is_reached_the_bar_is_longer() -> None:
    (axes,) = plots(ROWS)["targets"].axes
    bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    widths = {label.get_text(): bar.get_width() for label, bar in zip(axes.get_yticklabels(), bars, strict=True)}
    assert widths == {"memory <each>: 1.2": 1 / 1.2, "/v1/heartbeat: 0.7": 1.0}


def test_the_page_shows_machine_rows_and_plots_and_asks_for_nothing_else() -> None:
    text = page({"cores": 2}, ROWS, ["<svg>drawn</svg>"])
    assert "cores 2" in text
    assert "<figure><svg>drawn</svg></figure>" in text
    assert text.count("<tr>") == len(ROWS) + 1
    assert "memory &lt;each&gt;" in text
    assert '<td class="missed">missed</td>' in text
    assert not re.search(r"<(script|link|img)|(src|href)=", text)


def test_a_document_shows_the_rows_with_a_target_in_the_place_for_them(tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for _ in range(2):
        fill(document, markdown({"cores": 2}, ROWS))

    lines = document.read_text().splitlines()
    assert (lines[0], lines[-1], lines[3]) == ("before", "after", "cores 2.")
    assert [line.split(" | ")[0].strip("| ") for line in lines if line.startswith("|")] == [
        *("measured", "---", "/v1/heartbeat", "memory <each>"),
    ]
    assert "old" not in lines


def test_a_document_without_a_place_is_left_alone(tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    document.write_text(f"before {BEGIN}\n")
    with pytest.raises(ValueError, match="has no place"):
        fill(document, "table")
    assert document.read_text() == f"before {BEGIN}\n"

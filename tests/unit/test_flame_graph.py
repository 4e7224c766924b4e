"""Flame graphs: every sample is somewhere once, and what is drawn is as wide as its share."""

import re
import xml.etree.ElementTree as ElementTree

from tests.bench.flame_graph import Frame, draw, read, shares

FOLDED = """\
<module> (services/x/app.py);run (asyncio/runners.py);handle (aiohttp/web.py);decide (shared/licensing/decide.py) 60
<module> (services/x/app.py);run (asyncio/runners.py);handle (aiohttp/web.py) 20
<module> (services/x/app.py);run (asyncio/runners.py);publish<a> (aiormq/channel.py) 19
<module> (services/x/app.py);run (asyncio/runners.py);rare (redis/client.py) 1
"""
SVG = "{http://www.w3.org/2000/svg}"


def drawn(folded: str) -> dict[str, float]:
    """The widths of the frames in the picture, by what they tell when they are pointed at."""
    groups = ElementTree.fromstring(draw(read(folded), "a <title>")).iter(f"{SVG}g")
    return {group[0].text or "": float(group[1].attrib["width"]) for group in groups}


def test_each_origin_has_the_samples_of_its_own_code() -> None:
    assert shares(read(FOLDED)) == {"ours": 0.6, "aiohttp": 0.2, "redis": 0.01, "aio_pika": 0.19}


def test_a_frame_is_as_wide_as_its_share() -> None:
    assert drawn(FOLDED) == {
        "run (asyncio/runners.py): 100.0%": 1180.0,
        "handle (aiohttp/web.py): 80.0%": 944.0,
        "decide (shared/licensing/decide.py): 60.0%": 708.0,
        "publish<a> (aiormq/channel.py): 19.0%": 224.2,
        "rare (redis/client.py): 1.0%": 11.8,
    }


def test_what_is_too_thin_to_see_is_left_out() -> None:
    many = FOLDED.replace(" 60\n", " 60000\n")
    assert not any("rare" in name or "publish" in name for name in drawn(many))


def test_frames_stand_on_their_callers_and_beside_each_other() -> None:
    picture = draw(read(FOLDED), "t")
    places = {
        match[1]: (float(match[2]), float(match[3]))
        for match in re.finditer(r'<title>(\w+).*?<rect x="([\d.]+)" y="(\d+)"', picture)
    }
    assert places["run"] == (10.0, places["handle"][1] + 17)
    assert places["decide"] == (places["handle"][0], places["handle"][1] - 17)
    assert places["publish"] == (places["handle"][0] + 944, places["handle"][1])


def test_stacks_that_meet_again_are_one_frame() -> None:
    root = read("a (x.py);b (y.py) 1\na (x.py) 2\na (x.py);b (y.py) 3\n")
    assert root == Frame(
        name="all",
        samples=6,
        calls={"a (x.py)": Frame(name="a (x.py)", samples=6, calls={"b (y.py)": Frame(name="b (y.py)", samples=4)})},
    )

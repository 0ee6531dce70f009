"""The slider from noise to image: each state in its place, whatever the sheet's gaps."""

import re

import numpy as np
import pytest

from radiffuse.data.files import write_json
from radiffuse.report import write_report
from radiffuse.report.pictures import write_grid

STATES, CASES, SIDE = 6, 3, 20


@pytest.fixture
def run(tmp_path):
    """A run whose state k of case c is grey of (k + 10 c) / 40."""
    grey = [(k + 10 * c) / 20 - 1 for c in range(CASES) for k in range(STATES)]
    write_grid(
        tmp_path / "pictures" / "trajectory.png",
        [np.full((1, SIDE, SIDE), g) for g in grey],
        STATES,
    )
    settings = {"frames": [STATES, CASES]}
    write_json(tmp_path / "metrics.json", {"id": "ddpm", "method": {}, "settings": settings})
    return tmp_path


def test_a_state_is_under_every_place_of_the_slider(run):
    page = write_report(run).read_text()
    assert f'max="{STATES - 1}"' in page and page.count("background-position-y") == CASES
    # the sheet over one tile: background-size is in shares of the tile
    wide, high = (n * 2 * SIDE + 2 * (n - 1) for n in (STATES, CASES))
    (size,) = {
        tuple(map(float, s)) for s in re.findall(r"background-size: ([\d.]+)% ([\d.]+)%", page)
    }
    assert size == pytest.approx((100 * wide / (2 * SIDE), 100 * high / (2 * SIDE)), abs=1e-3)
    for state in range(STATES):  # CSS: p % of (sheet - tile) is cut off on the left
        left = state / (STATES - 1) * (wide - 2 * SIDE)
        assert left == pytest.approx(state * (2 * SIDE + 2))


def test_a_record_of_before_shows_the_sheet(run):
    write_json(run / "metrics.json", {"id": "ddpm", "method": {}, "settings": {}})
    page = write_report(run).read_text()
    assert 'type="range"' not in page and "Trajectory" in page

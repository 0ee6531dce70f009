"""One schedule of each kind, for tests that hold under all of them."""

import pytest

from radiffuse.diffusion.schedule import EDM, VE, VP, Cosine, Discrete, Rectified

SCHEDULES = {
    "vp": VP(),
    "ve": VE(0.01, 50.0),
    "edm": EDM(0.002, 80.0),
    "cosine": Cosine(),
    "rectified": Rectified(),
    "discrete": Discrete.cosine(100),
}
anywhere = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)

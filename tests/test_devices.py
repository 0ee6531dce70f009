"""Evaluations whose networks lie on a GPU: what they are told is brought there."""

import dataclasses

import pytest
import torch

from radiffuse.applications.evaluation.asked import Asked
from radiffuse.applications.reconstruction import evaluate as reconstruction
from radiffuse.applications.reconstruction.score_mri import ScoreMRI
from radiffuse.applications.segmentation.brainspade import BrainSPADE
from radiffuse.applications.segmentation.synthetic import looked
from radiffuse.data.dataset import open_cases

ELSEWHERE = torch.device("meta")
"""Stands for a GPU: nothing can be computed with it and the CPU together."""


class Told(Exception):
    """Where a tensor lies."""


@pytest.mark.parametrize("key", ["image", "kspace"])
def test_a_reconstruction_is_told_its_scans_where_its_network_is(key, monkeypatch):
    cases = open_cases("brains:count=6,size=32", mapping={"image": "t1"})
    recipe = dataclasses.replace(ScoreMRI.tiny(), samples=1).fitted(cases.facts())

    def seen(*told):
        x = told[1] if key == "kspace" else told[0]["image"]
        raise Told(x.device)

    if key == "kspace":
        kspace = torch.zeros(1, 2, 32, 32, dtype=torch.complex64)
        cases = dataclasses.replace(cases, columns={"kspace": cases.columns["image"]})
        monkeypatch.setattr(type(cases), "batch", lambda self, rows: {"kspace": kspace})
        monkeypatch.setattr(reconstruction, "undersampled", seen)
    else:
        monkeypatch.setattr(type(recipe), "acquire", lambda self, batch: seen(batch))
    monkeypatch.setattr(reconstruction, "device_of", lambda objective: ELSEWHERE)
    with pytest.raises(Told, match="meta"):
        reconstruction._reconstructed(recipe, recipe.objective(), cases, [0], {}, Asked())


def test_painting_is_looked_at_where_its_networks_are(monkeypatch):
    data = "brains:count=8,size=32,lesions=0.6,label=none,radius_mm=20"
    mapping = {"image": "t1", "t2": "t2", "mask": "lesion", "shares": "shares", "height": "height"}
    cases = open_cases(data, mapping=mapping)
    recipe = dataclasses.replace(BrainSPADE.tiny(), also=("t2",)).fitted(cases.facts())
    painting = recipe.objective().painting
    asked = []

    def style(x):
        asked.append(x.device)
        raise Told

    painting.players["style"].forward = style
    monkeypatch.setattr(looked, "device_of", lambda objective: ELSEWHERE)
    with pytest.raises(Told):
        looked.disentangled(recipe, painting, cases, 4)
    assert asked == [ELSEWHERE]

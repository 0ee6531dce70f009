"""The U-Net ensemble beside segmentation ensembles: its budget, its temperature, and who fits that."""

import numpy as np
import pytest
import torch

from radiffuse.applications.evaluation.asked import Asked
from radiffuse.applications.segmentation.baselines import (
    MEMBERS,
    Aside,
    Ensemble,
    rivals_of,
    set_aside,
)
from radiffuse.applications.segmentation.evaluate import evaluate_segmentation
from radiffuse.applications.segmentation.segmentation_ensembles import SegmentationEnsembles
from radiffuse.applications.segmentation.temperature import fitted_temperature, tempered
from radiffuse.data.dataset import from_iterable, open_cases
from radiffuse.diffusion.label_maps import likeliest
from radiffuse.errors import UserError
from radiffuse.metrics.segmentation import voxel_ece
from radiffuse.training.options import TrainOptions

SIDE = 24


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Slices of 20 training patients, two of val and three of test, two each."""
    path = tmp_path_factory.mktemp("data") / "noise.npz"
    draw = np.random.default_rng(0)
    splits = ["train"] * 40 + ["val"] * 4 + ["test"] * 6
    np.savez(
        path,
        image=draw.integers(0, 255, (50, 16, 16), dtype=np.uint8),
        mask=draw.integers(0, 3, (50, 16, 16), dtype=np.uint8),
        patient=np.array([f"p{k // 2}" for k in range(50)]),
        split=np.array(splits),
    )
    return open_cases(path)


def too_sure(by, n=6):
    """Foreground probabilities of two labels, `by` times too sure; masks, and the law they have."""
    draw = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(n, 3, SIDE, SIDE, generator=draw, dtype=torch.float64)
    p = logits.softmax(1)
    flat = p.movedim(1, -1).flatten(0, -2)
    mask = torch.multinomial(flat, 1, generator=draw).reshape(n, 1, SIDE, SIDE)
    return (by * logits).softmax(1)[:, 1:], mask, p[:, 1:]


def test_a_label_that_only_validation_has_is_named_before_anything_is_trained(tmp_path):
    mask = np.zeros((30, 16, 16), np.uint8)
    mask[:, :8] = 1
    mask[22, :4] = 2
    path = tmp_path / "rare.npz"
    image = np.random.default_rng(0).integers(0, 255, mask.shape, dtype=np.uint8)
    split = np.array(["train"] * 20 + ["val"] * 5 + ["test"] * 5)
    np.savez(path, image=image, mask=mask, split=split, patient=np.arange(30))
    cases = open_cases(path)
    recipe = SegmentationEnsembles.tiny().fitted(cases.facts())
    asked = Asked(validation=cases.split("val"))
    with pytest.raises(UserError, match=r"case 22 holds label 2, and the model knows 0.* to 1"):
        evaluate_segmentation(recipe, None, cases.split("train"), cases.split("test"), asked)


@pytest.mark.parametrize("by", [0.5, 1.0, 3.0])
def test_a_temperature_undoes_what_makes_probabilities_too_sure(by):
    found, mask, law = too_sure(by)
    temperature = fitted_temperature(found, mask)
    assert temperature == pytest.approx(by, rel=0.1)
    assert torch.allclose(tempered(found, by), law, atol=0.01)
    assert torch.allclose(tempered(found, 1.0), found, atol=1e-5)
    assert voxel_ece(tempered(found, temperature), mask) < 0.02
    assert torch.equal(likeliest(tempered(found, 7.0)), likeliest(found)), "labels stay"


def test_the_temperature_is_never_fitted_to_what_is_measured(cases):
    train, test, val = (cases.split(name) for name in ("train", "test", "val"))
    fits = set_aside(train, val, test.patients)
    assert fits.source == "validation split" and fits.learned is train
    assert fits.fitted.ids == val.ids
    assert set_aside(train, val, val.patients).fitted is None
    assert set(set_aside(train, val, val.patients[:1]).fitted.patients) == {val.patients[-1]}
    own = set_aside(train, None, test.patients)
    assert own.source == "training patients set aside"
    learned, fitting = set(own.learned.patients), set(own.fitted.patients)
    assert learned | fitting == set(train.patients) and not learned & fitting
    assert len(fitting) == 2, "a tenth of twenty"
    again = set_aside(train, None, train.patients)
    assert again.fitted is None and again.learned.ids == own.learned.ids, "one training for all"


class Says:
    """A trained network that gives these probabilities whatever it sees."""

    def __init__(self, foreground):
        self.foreground = foreground
        self.players = {"network": torch.nn.Identity()}

    def predict(self, batch):
        return self.foreground[: len(batch["image"])]


def test_an_ensemble_is_the_tempered_mean_of_its_members():
    """Their mean is three times too sure, and is set right; their own label maps are draws of its law."""
    found, mask, law = too_sure(3.0)
    members = [Says(0.9 * found), Says(1.1 * found)]
    image = torch.zeros(6, 1, SIDE, SIDE)
    image[..., 0] = 1
    items = [{"image": i, "mask": m.to(torch.uint8)} for i, m in zip(image, mask, strict=True)]
    fitting = from_iterable(items, range=(-1, 1))
    ensemble = Ensemble(members, ("image",), 6, Aside(fitting, fitting, "here"))
    assert ensemble.temperature == pytest.approx(3, rel=0.1)
    answer = ensemble.answer({"image": image})
    assert torch.allclose(answer.foreground, law, atol=0.03)
    assert answer.maps.shape == (2, 6, 1, SIDE, SIDE)
    assert torch.equal(answer.maps[0], likeliest(0.9 * found))
    said = {"members": 2, "temperature": ensemble.temperature, "fitted_to": "here", "patients": 6}
    assert ensemble.said == said
    unfitted = Ensemble(members, ("image",), 6, Aside(fitting, None, "here"))
    assert unfitted.temperature == 1 and unfitted.said["patients"] == 0


def test_the_members_take_the_budget_of_one_network_and_learn_nothing_of_what_fits_them(cases):
    recipe = SegmentationEnsembles.tiny().fitted(cases.facts())
    train = cases.split("train")
    fits = set_aside(train, None, ())
    run = TrainOptions(minutes=20.0, batch=6)
    rivals = rivals_of(recipe, train, fits, Asked(trained=run))
    unet = rivals.pop("unet")
    assert unet.cases is train and (unet.options.minutes, unet.options.batch) == (20, 6)
    assert (
        len(rivals) == MEMBERS and len({each.options.seed for each in rivals.values()}) == MEMBERS
    )
    assert sum(each.options.minutes for each in rivals.values()) == pytest.approx(20)
    for each in rivals.values():
        assert not set(each.cases.patients) & set(fits.fitted.patients)
        assert each.options.batch == 6

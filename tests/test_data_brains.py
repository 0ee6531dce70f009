"""Embedded brains: seeded, upright, different people, known lesions, true geometry."""

import pytest
import torch

from radiffuse.data.dataset import open_cases
from radiffuse.data.embedded.sets import open_brains, parse
from radiffuse.errors import UsageError


def test_case_k_is_the_same_whatever_the_count():
    few, more = open_cases("brains:count=5"), open_cases("brains:count=8")
    assert torch.equal(few.batch(range(5))["image"], more.batch(range(5))["image"])
    assert few.ids == more.ids[:5]


def test_the_seed_makes_another_population():
    first, second = open_cases("brains:count=3"), open_cases("brains:count=3", seed=1)
    assert not torch.equal(first.batch([0])["image"], second.batch([0])["image"])
    assert first.fingerprint != second.fingerprint


@pytest.mark.parametrize("kind", ["brains", "brains3d"])
@pytest.mark.parametrize("pairs", ["none", "motion", "people"])
def test_people_can_be_counted_from_another_than_the_first(kind, pairs):
    slices = 3 if kind == "brains" else 1
    words = f"size=16,label=none,pairs={pairs}"
    all_of_them = open_cases(f"{kind}:count={3 * slices},{words}")
    others = open_cases(f"{kind}:count={slices},first=2,{words}")
    last = list(range(2 * slices, 3 * slices))
    assert others.ids == tuple(all_of_them.ids[k] for k in last)
    assert set(others.patients).isdisjoint(all_of_them.patients[: 2 * slices])
    for key, value in others.batch(range(slices)).items():
        assert torch.equal(value, all_of_them.batch(last)[key]), key


def test_default_keys_and_mapping():
    cases = open_cases("brains:count=6")
    assert cases.keys == ("image", "label")
    assert cases.facts().class_names == ("low", "middle", "high")
    assert cases.ranges == {"image": (0, 255)}
    mapped = open_cases(
        "brains:count=6", mapping={"source": "t1", "target": "t2", "mask": "tissue"}
    )
    batch = mapped.batch([0])
    assert set(batch) == {"source", "target", "mask", "label"}
    assert torch.equal(batch["source"], cases.batch([0])["image"])
    assert batch["mask"].unique().tolist() == [0, 1, 2, 3]


def test_contrasts_are_those_of_t1_t2_and_flair():
    keys = ("t1", "t2", "flair", "tissue")
    cases = open_cases("brains:count=6", mapping=dict(zip(keys, keys, strict=True)))
    batch = cases.batch(range(6))
    fluid, grey, white = (
        {key: batch[key][batch["tissue"] == label].mean() for key in keys[:3]}
        for label in (1, 2, 3)
    )
    assert fluid["t1"] < grey["t1"] < white["t1"]
    assert fluid["t2"] > grey["t2"] > white["t2"]
    assert fluid["flair"] < white["flair"] < grey["flair"]


def test_people_differ_and_their_slices_belong_to_them():
    cases = open_cases("brains:count=12")
    assert cases.patients[:4] == ("brain0000",) * 3 + ("brain0001",)
    middle = cases.batch([1, 4, 7, 10])["image"].flatten(1)
    assert torch.pdist(middle).min() > 0.2 * torch.cdist(middle, -torch.ones_like(middle)).max()


def test_slices_are_upright_and_their_affine_says_so():
    """Front up, right side on the left: rows run to the back, columns to the person's left."""
    image = open_cases("brains:count=3").image(1, "image")
    assert image.modality == "MR"
    corner = image.affine @ torch.tensor([0, 0, 0, 1.0], dtype=torch.float64)
    other = image.affine @ torch.tensor([63, 63, 0, 1.0], dtype=torch.float64)
    assert corner[0] > 90 and other[0] < -90
    assert corner[1] > 60 and other[1] < -90
    assert 0 <= corner[2] <= 22
    assert image.spacing_mm == (3.25, 3.25)


def test_volume_and_slice_of_one_person_agree():
    """World coordinates: the slice is found in the volume where its affine says."""
    volume = open_brains("brains3d:count=1,size=64,noise=0").columns["t1"].image(0)
    slice_ = open_brains("brains:count=3,noise=0").columns["t1"].image(1)
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    index = torch.stack([rows, columns, torch.zeros(64, 64), torch.ones(64, 64)]).double()
    world = slice_.affine @ index.flatten(1)
    voxel = (torch.linalg.inv(volume.affine) @ world)[:3].round().long()
    found = volume.data[0][tuple(voxel)].reshape(64, 64).float()
    wanted = slice_.data[0].float()
    assert torch.corrcoef(torch.stack([found.flatten(), wanted.flatten()]))[0, 1] > 0.9


def test_lesions_are_bright_on_t2_and_flair_dark_on_t1_and_nowhere_else():
    name = "brains:count=6,lesions=1,radius_mm=14,noise=0"
    ill = open_brains(name).columns
    healthy = open_brains(name.replace("lesions=1", "lesions=0")).columns
    mask = ill["lesion"].stack(range(6)).bool()
    assert mask.flatten(1).any(1).all()
    assert not healthy["lesion"].stack(range(6)).any()
    for key, sign in (("t1", -1), ("t2", 1), ("flair", 1)):
        change = ill[key].stack(range(6)).float() - healthy[key].stack(range(6)).float()
        assert (change[mask] * sign).mean() > 25
        far = torch.nn.functional.max_pool2d(mask.float(), 7, stride=1, padding=3) == 0
        assert change[far].abs().max() <= 5


def test_volumes():
    cases = open_cases("brains3d:count=2,size=32,lesions=1,label=lesion")
    assert cases.batch([0])["image"].shape == (1, 1, 32, 32, 32)
    assert cases.image(0, "image").spacing_mm == (6.5, 6.5, 6.5)
    assert cases.batch([0, 1])["label"].tolist() == [1, 1]
    image = cases.batch([0])["image"][0, 0]
    assert image[:, :, -1].max() < -0.5 < image[16, 16, 16]


@pytest.mark.parametrize(
    "name", ["brains:sise=3", "brains:count=many", "brains:size=4", "brains3d:label=level"]
)
def test_bad_options(name):
    with pytest.raises(UsageError, match="brains"):
        parse(name)

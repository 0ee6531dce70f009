"""Volumes as scanners make them: odd sides, short axes, thick slices, more voxels than fit at once."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from radiffuse.applications.generation.ddpm import DDPM
from radiffuse.applications.ranges import OutOfRange
from radiffuse.applications.sizes import check_same_size, halvings
from radiffuse.data.dataset import open_cases
from radiffuse.diffusion.tiling import by_tiles
from radiffuse.diffusion.windows import tile_weights
from radiffuse.errors import UserError
from radiffuse.nn import UNet
from radiffuse.nn.classifier import Classifier
from radiffuse.training.footprint import measured

TINY = ("--preset", "tiny", "--train.steps", 1, "--train.batch", 2)


def busy(unet, seed=0):
    """A U-Net whose last layers say something, as those of a new one do not."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in unet.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator) + (
            1.0 if parameter.dim() == 1 and float(parameter.data.mean()) == 1 else 0.0
        )
    return unet.eval()


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- odd sizes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(13,), (13, 10), (5, 6, 7), (8, 8, 9)])
def test_odd_sides_are_continued_and_cut_back_exactly(size):
    """What comes out is what the network says of the image continued by reflection, and nothing else."""
    axes = len(size)
    unet = busy(UNet(axes, 1, 8, (1, 2, 2), 1, (), condition=1))
    x, image, clock = noise(2, 1, *size), noise(2, 1, *size, seed=1), torch.zeros(2)
    pads = [part for side in reversed(size) for part in (0, -side % 4)]
    wide = [F.pad(each, pads, mode="reflect") for each in (x, image)]
    whole = unet(wide[0], clock, image=wide[1])
    made = unet(x, clock, image=image)
    assert made.shape == x.shape
    assert torch.equal(made, whole[(..., *(slice(side) for side in size))])


def test_a_classifier_reads_odd_and_flat_images():
    reader = Classifier(3, 1, 2, 8, (1, 1, 1, 1), patch=2)
    assert reader(noise(2, 1, 17, 16, 3), torch.zeros(2)).shape == (2, 2)


def test_even_sizes_are_what_they_were():
    unet = busy(UNet(2, 1, 8, (1, 2, 2), 1, ()))
    x = noise(1, 1, 16, 8)
    assert unet.strides == (4, 4) and unet(x, torch.zeros(1)).shape == x.shape


def test_images_smaller_than_the_stride_are_refused_with_what_fits():
    with pytest.raises(
        ValueError, match="images of 3 x 8 are smaller than the network's stride 4 x 4"
    ):
        UNet(2, 1, 8, (1, 2, 2), 1, ())(torch.zeros(1, 1, 3, 8), torch.zeros(1))


# --- axes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "spacing", "halved"),
    [
        ((64, 64, 64), (1.0, 1.0, 1.0), ()),
        ((64, 64, 64), (), ()),
        ((64, 64, 32), (1.0, 1.0, 2.0), ()),
        ((128, 128, 12), (), (3, 3, 1)),
        ((128, 128, 12), (1.0, 1.0, 5.0), (3, 3, 1)),
        ((128, 128, 64), (1.0, 1.0, 5.0), (3, 3, 1)),
        ((128, 128, 64), (1.0, 1.0, 3.0), (3, 3, 2)),
        ((128, 128, 3), (), (3, 3, 0)),
        ((12, 128, 128), (), (1, 3, 3)),
        ((512, 512), (1.0, 9.0), ()),
        ((8, 8, 8), (), ()),
        ((96, 96, 1), (), ()),
    ],
)
def test_axes_are_halved_by_the_rule(size, spacing, halved):
    assert halvings(size, spacing, levels=4, patch=1) == halved


def test_a_network_keeps_the_resolution_of_an_axis():
    """By the coarsest levels alone, so that 12 slices are 12 until the last halving."""
    unet = busy(UNet(3, 1, 8, (1, 1, 2, 2), 1, (), halved=(3, 3, 1)))
    assert unet.strides == (8, 8, 2) and unet.stride == 8
    seen = []
    for stage in unet.down:
        stage.register_forward_hook(lambda _, __, h: seen.append(tuple(h.shape[2:])))
    x = noise(1, 1, 16, 16, 12)
    assert unet(x, torch.zeros(1)).shape == x.shape
    assert seen[::2] == [(16, 16, 12), (8, 8, 12), (4, 4, 12), (2, 2, 6)]
    assert unet(noise(1, 1, 16, 9, 5), torch.zeros(1)).shape == (1, 1, 16, 9, 5)


def test_all_axes_halved_is_the_network_as_it_was():
    one, other = (busy(UNet(3, 1, 8, (1, 2), 1, (), halved=h)) for h in ((), (1, 1, 1)))
    x = noise(1, 1, 8, 8, 8)
    assert torch.equal(one(x, torch.zeros(1)), other(x, torch.zeros(1)))
    assert one.state_dict().keys() == other.state_dict().keys()


@pytest.mark.parametrize("halved", [(1, 1), (2, 1, 1), (1, 1, -1)])
def test_halvings_that_no_network_has_are_refused(halved):
    with pytest.raises(ValueError, match="3 numbers from 0 to 1"):
        UNet(3, 1, 8, (1, 2), 1, (), halved=halved)


def nifti(folder, size, spacing=(1, 1, 1), count=3, value=None):
    import nibabel

    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        data = (
            rng.integers(0, 255, size).astype(np.int16) if value is None else np.full(size, value)
        )
        image = nibabel.Nifti1Image(data.astype(np.int16), np.diag([*spacing, 1.0]))
        nibabel.save(image, folder / f"v{number}.nii.gz")
    return folder


def test_a_recipe_is_fitted_to_size_and_spacing(tmp_path):
    facts = open_cases(nifti(tmp_path / "d", (32, 32, 8), (1, 1, 4))).facts()
    assert facts.spacing == (1.0, 1.0, 4.0)
    recipe = DDPM(width=8, multiples=(1, 1, 1, 1), blocks=1, attention=()).fitted(facts)
    assert recipe.halved == (3, 3, 1)
    assert recipe.objective().players["network"].strides == (8, 8, 2)
    assert any("halved 3 3 1 times" in line for line in recipe.notices())
    asked = DDPM(width=8, multiples=(1, 1, 1, 1), blocks=1, attention=(), halved=(3, 3, 3))
    assert asked.fitted(facts).halved == (), "as before, where it is asked for"
    with pytest.raises(OutOfRange, match="one number for each of 3 axes is needed, 3 at most"):
        DDPM(multiples=(1, 1, 1, 1), attention=(), halved=(4, 1, 1)).fitted(facts)


def test_attention_that_is_most_of_the_work_is_said(tmp_path):
    facts = open_cases(nifti(tmp_path / "d", (32, 32, 32), count=3)).facts()
    fine = DDPM(width=8, multiples=(1, 1), blocks=1, attention=(0,)).fitted(facts)
    assert fine.notices() == [
        "level 0 attends over 32 x 32 x 32 voxels, work that grows with their square; "
        "--attention -1 attends where 16 a side are left"
    ]
    coarse = DDPM(width=8, multiples=(1, 1), blocks=1, attention=(-1,)).fitted(facts)
    assert coarse.attending() == (1, 2) and coarse.notices() == []


# --- tiles ------------------------------------------------------------------------------------------


def seams(made, whole, zone):
    """Mean step along the last axis where tiles blend over that elsewhere, against those of the whole."""
    ratios = []
    for x in (made, whole):
        steps = x.diff(dim=-1).abs().mean((0, 1, 2, 3))
        ratios.append(float(steps[zone].mean() / steps[~zone].mean()))
    return ratios[0] / ratios[1]


@pytest.mark.parametrize("tile", [(24, 24, 24), (24, 24, 16)])
@torch.no_grad()
def test_tiles_and_slabs_of_a_network_show_no_seam(tile):
    """Of noisy images, steps where tiles blend are those elsewhere; without overlap smooth ones break at borders."""
    smooth = F.interpolate(noise(1, 1, 4, 4, 13), size=(24, 24, 96), mode="trilinear")
    made = {}
    for overlap, x in (
        (0.5, smooth + noise(*smooth.shape)),
        (0.25, smooth + noise(*smooth.shape)),
        (0.0, smooth),
    ):
        whole = busy(UNet(3, 1, 8, (1, 2), 1, ()))(x, torch.zeros(1))
        by_tiles(tiled := busy(UNet(3, 1, 8, (1, 2), 1, ())), tile, overlap)
        shared = 4 * round(overlap * tile[-1] / 4)
        starts, weights = tile_weights(96, tile[-1], shared)
        blends = ((weights > 0) & (weights < 1)).any(0)
        zone = blends[1:] | blends[:-1]
        zone[[start - 1 for start in starts[1:] if not shared]] = True
        made[overlap] = seams(tiled(x, torch.zeros(1)), whole, zone)
    assert abs(made[0.5] - 1) < 0.05 and abs(made[0.25] - 1) < 0.1 and made[0.0] > 1.5, made


def test_tiles_are_told_what_the_whole_is_told():
    """Images are cut as x is, labels and times go by case; a tile as large as the image is the image."""
    options = {"classes": 3, "condition": 1}
    plain, tiled = (busy(UNet(3, 1, 8, (1,), 1, (), **options)) for _ in range(2))
    by_tiles(tiled, (12, 12, 8), 0.5)
    told = {"image": noise(2, 1, 8, 8, 8, seed=2), "label": torch.tensor([0, 2])}
    x, clock = noise(2, 1, 8, 8, 8), torch.tensor([0.1, 0.9])
    assert torch.equal(plain(x, clock, **told), tiled(x, clock, **told))
    by_tiles(tiled := busy(UNet(3, 1, 8, (1,), 1, (), **options)), (8, 8, 4), 0.0)
    halves = [
        plain(x[..., k : k + 4], clock, image=told["image"][..., k : k + 4], label=told["label"])
        for k in (0, 4)
    ]
    assert torch.allclose(tiled(x, clock, **told), torch.cat(halves, -1), atol=1e-5)


def test_memory_of_tiles_is_flat_in_the_volume():
    """But for the volume itself; whole, it grows with the voxels."""

    def peak(side, tile):
        unet, x = UNet(3, 1, 8, (1, 2), 1, ()).eval(), torch.zeros(1, 1, side, side, side)
        if tile:
            by_tiles(unet, (12,) * 3, 0.25)
        with torch.no_grad():
            return measured(lambda: unet(x, torch.zeros(1)), 1e12) - (
                2 * 4 * side**3 if tile else 0
            )

    assert peak(28, True) < 1.1 * peak(20, True)
    assert peak(28, False) > 2 * peak(20, False)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from radiffuse import cli

    folder = tmp_path_factory.mktemp("tiles")
    data = nifti(folder / "d", (16, 16, 16), count=12)
    words = ["train", "ddpm", "--data", data, "--out", folder / "r", *TINY]
    assert cli.main([str(word) for word in words]) == 0
    return folder / "r"


def test_samples_are_drawn_by_tiles(run, tmp_path):
    from radiffuse import cli

    found = {}
    for name, more in (("whole", ()), ("tiles", ("--tile", 8)), ("large", ("--tile", 32, 16, 16))):
        words = ["sample", run, "--count", 1, "--steps", 2, "--out", tmp_path / name, *more]
        assert cli.main([str(word) for word in words]) == 0
        found[name] = open_cases(tmp_path / name / "sample-00000.nii.gz").image(0, "image").data
    assert torch.equal(found["whole"], found["large"])
    settings = json.loads((tmp_path / "tiles" / "predictions.json").read_text())
    assert "tile" in json.dumps(settings)


def test_predictions_are_drawn_by_tiles_of_image_and_condition(tmp_path):
    from radiffuse import cli

    data = ["--data", "brains3d:count=4,size=8", "--map", "source=t1", "target=t2"]
    words = ["train", "ddpm-conversion", *data, "--out", tmp_path / "r", *TINY]
    assert cli.main([str(word) for word in words]) == 0
    found = []
    for name, more in (("whole", ()), ("large", ("--tile", 8)), ("tiles", ("--tile", 4, 4, 8))):
        words = ["predict", tmp_path / "r", "--steps", 2, "--out", tmp_path / name, *more]
        assert cli.main([str(word) for word in words]) == 0
        files = sorted((tmp_path / name).glob("*-target.nii.gz"))
        found.append(torch.stack([open_cases(file).image(0, "image").data for file in files]))
    assert torch.equal(found[0], found[1]) and found[2].shape == found[0].shape


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--tile", 7), "--tile 7: sides must divide by the network's strides; take 8 8 8"),
        (("--tile", 8, 8), "--tile 8 8: one side, or one for each of 3 axes, is needed"),
        (("--tile", 8, "--overlap", 1), "--overlap 1: a share of the tile is needed"),
    ],
)
def test_tiles_that_do_not_fit_are_one_line(run, tmp_path, refused, words, said):
    line = refused("sample", run, "--count", 1, "--out", tmp_path / "s", *words, code=2)
    assert said in line


# --- bad input --------------------------------------------------------------------------------------


def test_volumes_smaller_than_the_stride_are_one_line(tmp_path):
    facts = open_cases(nifti(tmp_path / "d", (6, 6, 6))).facts()
    with pytest.raises(
        UserError, match=r"6 x 6 x 6 are smaller .* stride 8; resize with --size 8 8 8"
    ):
        DDPM(multiples=(1, 1, 1, 1), attention=()).fitted(facts)
    flat = open_cases(nifti(tmp_path / "flat", (16, 16, 2))).facts()
    assert DDPM(multiples=(1, 1, 1, 1), attention=()).fitted(flat).halved == (3, 3, 0)


def test_one_volume_is_one_line(tmp_path, refused):
    data = nifti(tmp_path / "d", (8, 8, 8), count=1)
    line = refused("train", "ddpm", "--data", data, "--out", tmp_path / "r", *TINY)
    assert "has one training case; training needs two or more; --slices axial" in line


def test_constant_volumes_are_one_line(tmp_path, refused):
    data = nifti(tmp_path / "d", (8, 8, 8), value=7)
    line = refused("train", "ddpm", "--data", data, "--out", tmp_path / "r", *TINY)
    assert (
        "every image of 'image' is constant (one grey value): there is nothing in them to see"
        in line
    )


@pytest.mark.parametrize("size", [(9, 10, 11), (16, 16, 5)])
def test_odd_volumes_train_and_are_sampled_in_their_size(tmp_path, size):
    from radiffuse import cli

    data = nifti(tmp_path / "d", size, count=12)
    words = ["train", "ddpm", "--data", data, "--out", tmp_path / "r", *TINY]
    assert cli.main([str(word) for word in words]) == 0
    words = ["sample", tmp_path / "r", "--count", 1, "--steps", 2, "--out", tmp_path / "s"]
    assert cli.main([str(word) for word in words]) == 0
    assert open_cases(next((tmp_path / "s").glob("*.nii.gz"))).image(0, "image").size == size


@pytest.mark.parametrize(
    ("other", "hint"),
    [((20, 25), "--size 16 20"), ((20, 16), "one of them is turned"), ((16, 20, 1), "not whole")],
)
def test_two_sizes_are_told_with_what_may_be_wrong(other, hint):
    with pytest.raises(UserError, match=f"must be of one size; .*{hint}"):
        check_same_size("image", (16, 20), "mask", other)

"""Shapes from pictures: what the network is told, exact conditional laws, the card's own check, refusals."""

import dataclasses
import json

import nibabel
import numpy as np
import PIL.Image
import pytest
import torch

from radiffuse import cli, papers
from radiffuse.applications.generation.dispr import DISPR
from radiffuse.applications.generation.shapes.pictures import pictured, silhouette_of, tiled
from radiffuse.data.dataset import open_cases
from radiffuse.diffusion.kernels import diffuse
from radiffuse.diffusion.network import Network
from radiffuse.errors import UsageError, UserError
from radiffuse.testing import check_recipe


@pytest.fixture(scope="module")
def made():
    return open_cases("shapes3d:count=12,size=16")


def of_size(*size, **more):
    """Facts of volumes of that size, and of what is beside them."""
    facts = open_cases("shapes3d:count=4,size=8").facts()
    return dataclasses.replace(facts, **{"mask_size": {"mask": size}, **more})


def of_pictures(*size):
    return of_size(*size, channels={"picture": 1}, size={"picture": size[1:]})


# ------------------------------------------------------------------------- what the network is told
def test_the_suite(made):
    check_recipe(DISPR, made.facts(), made.batch(range(8)))


def test_the_paper_preset_is_the_card():
    recipe = DISPR().fitted(of_size(64, 64, 64))
    network = recipe.network()
    assert network.backbone.enter.in_channels == 3, "mask, masked intensity and the noisy shape"
    assert network.backbone.leave.out_channels == 2, "noise and variance"
    assert network.backbone.strides == (1, 8, 8), "the depth is not halved"
    assert recipe.unet_shape()["attention"] == (2, 4)
    betas = network.schedule.betas
    assert len(betas) == 1000 and torch.allclose(betas[[0, -1]].float(), torch.tensor([1e-4, 0.02]))
    assert recipe.make_sampler(network, None).w is None, "the variance is the learned one"


def test_a_picture_is_repeated_along_depth_and_nothing_else():
    picture = torch.rand(2, 2, 4, 6)
    told = tiled(picture, 5)
    assert told.shape == (2, 2, 5, 4, 6)
    assert all(torch.equal(told[:, :, depth], picture) for depth in range(5))
    moved = picture.clone()
    moved[0, 1, 2, 3] += 1
    changed = (tiled(moved, 5) != told).nonzero()
    assert changed.tolist() == [[0, 1, depth, 2, 3] for depth in range(5)], "a whole column"


def test_the_background_is_removed_from_the_intensity():
    picture, mask = torch.rand(1, 1, 6, 6) * 2 - 1, torch.zeros(1, 1, 6, 6).long()
    mask[..., 2:4, 2:5] = 3
    seen = pictured(picture, mask)
    assert torch.equal(seen[:, :1], (mask > 0).float()), "any label is inside"
    assert torch.allclose(seen[:, 1:], (mask > 0) * (picture + 1) / 2)
    assert seen.min() >= 0 and seen.max() <= 1


def test_black_tells_the_background_where_there_is_no_mask():
    picture = torch.full((1, 1, 6, 6), -1.0)
    picture[..., 2:5, 1:4] = 0.2
    assert torch.equal(silhouette_of(picture), picture > -1)
    with pytest.raises(UserError, match="no black background"):
        silhouette_of(picture + 0.1)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_picture_is_made_of_a_volume_along_the_axis(axis):
    size = (4, 8, 12)
    recipe = dataclasses.replace(DISPR.tiny(), axis=axis).fitted(of_size(*size))
    depth, *picture = (size[axis], *(n for k, n in enumerate(size) if k != axis))
    assert recipe.size == (depth, *picture)
    mask = (torch.rand(3, 1, *size) < 0.3).long()
    made = recipe.prepared({"mask": mask})
    share = mask.float().sum(2 + axis) / size[axis]
    assert torch.equal(made["condition"][:, :1, 0], (share > 0).float())
    assert torch.allclose(made["condition"][:, 1:, -1], share)
    x_0 = recipe.clean(made)
    assert torch.equal(recipe.answer(x_0)["mask"], mask), "and back"


def test_pictures_of_the_data_are_told_where_there_are_any():
    recipe = DISPR.tiny().fitted(of_pictures(8, 8, 8))
    assert recipe.told == "picture"
    picture = torch.full((1, 1, 8, 8), -1.0)
    picture[..., 2:5, 2:5] = 0.5
    made = recipe.prepared({"mask": torch.ones(1, 1, 8, 8, 8).long(), "picture": picture})
    assert torch.equal(made["condition"][:, 1, 3], (picture[:, 0] + 1) / 2), "not the thickness"
    made = dataclasses.replace(recipe, told="thickness").prepared({"picture": picture})
    assert made["condition"].shape == (1, 2, 8, 8, 8), (
        "who trained on thickness is told a picture of it"
    )


def test_the_noise_is_on_the_shape_alone_and_the_condition_the_same_at_every_step(made):
    recipe = DISPR.tiny().fitted(made.facts())
    objective = recipe.objective()
    seen = []
    objective.network.backbone.register_forward_pre_hook(
        lambda module, inputs, more: seen.append((inputs[0], more["image"])), with_kwargs=True
    )
    batch = made.batch(range(4))
    next(objective.losses(batch))
    condition = recipe.prepared(batch)["condition"]
    assert torch.equal(seen[0][1], condition), "clean, and not noised"
    seen.clear()
    recipe.predict(objective, {**batch, "seed": torch.arange(4)})
    assert len(seen) == recipe.steps
    assert all(torch.equal(image, condition) for _, image in seen)
    assert len({float(x.sum()) for x, _ in seen}) == recipe.steps, "while the shape goes on"


def test_nothing_of_the_true_shape_is_told_but_its_picture(made):
    recipe = DISPR.tiny().fitted(made.facts())
    objective = recipe.objective()
    for parameter in objective.players["network"].parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    mask, seed = made.batch(range(3))["mask"], torch.arange(3)
    first = recipe.predict(objective, {"mask": mask, "seed": seed})["expected"]
    other = recipe.predict(objective, {"mask": mask.flip(2), "seed": seed})["expected"]
    assert torch.equal(first, other), "turned over in depth it looks the same"
    assert not torch.equal(
        first, recipe.predict(objective, {"mask": mask.flip(3), "seed": seed})["expected"]
    )


# ----------------------------------------------------------------- exact laws of Gaussian toy data
class Toy(DISPR):
    """Volumes of real numbers in place of shapes."""

    def clean(self, batch):
        return batch["mask"].float()

    def answer(self, x_0):
        return {"mask": x_0, "expected": x_0}


SIDE = 2
VOXELS, PIXELS = SIDE**3, SIDE**2


def gaussians():
    """Mean and covariance of (volume, picture), jointly Gaussian, the picture in [0, 1] but for its tails."""
    generator = torch.Generator().manual_seed(3)
    root = torch.randn(VOXELS + PIXELS, VOXELS + PIXELS, generator=generator).double()
    root[VOXELS:] *= 0.3
    mean = torch.cat([torch.linspace(-0.2, 0.2, VOXELS), torch.full((PIXELS,), 0.5)]).double()
    return mean, 0.06**2 * root @ root.T


def posterior(y):
    """E[volume given pictures y (B, 4)] and its covariance."""
    mean, covariance = gaussians()
    both, own = covariance[:VOXELS, VOXELS:], covariance[VOXELS:, VOXELS:]
    gain = torch.linalg.solve(own, both.T).T
    return mean[:VOXELS] + (y - mean[VOXELS:]) @ gain.T, covariance[
        :VOXELS, :VOXELS
    ] - gain @ both.T


def clean_of(x_t, y, alpha, sigma):
    """E[x_0 given x_t (B, 8) and y (B, 4)]."""
    mean, covariance = posterior(y)
    noisy = alpha**2 * covariance + sigma**2 * torch.eye(VOXELS, dtype=torch.float64)
    gain = alpha * torch.linalg.solve(noisy, covariance).T
    return mean + (x_t - alpha * mean) @ gain.T


class Exact(Network):
    """The exact denoiser of these data, told what the recipe's network is told."""

    def given(self, x_t, t, image):
        assert bool((image[:, :1] == 1).all()), "the mask of these pictures"
        y = image[:, 1, -1].flatten(1).double()
        alpha, sigma = (each.double().flatten()[0] for each in self.schedule(t, x_t))
        return clean_of(x_t.flatten(1).double(), y, alpha, sigma).reshape(x_t.shape).to(x_t)

    def with_variance(self, x_t, t, **condition):
        return self.given(x_t, t, **condition), 0.0


def toy():
    values = {"multiples": (1,), "attention": (), "learned_variance": False, "told": "picture"}
    solver = {"sampler": "dpm-solver", "grid": "log-snr", "stop": 0.002, "steps": 40}
    return Toy(**values, **solver).fitted(of_pictures(SIDE, SIDE, SIDE))


def batch_of(volumes, y):
    shape = (-1, 1, SIDE, SIDE)
    picture = (2 * y - 1).float().reshape(shape)
    told = {"picture": picture, "picture_mask": torch.ones_like(picture).long()}
    return (
        told if volumes is None else {**told, "mask": volumes.float().reshape(-1, 1, *[SIDE] * 3)}
    )


def test_draws_have_the_conditional_mean_and_covariance():
    recipe = toy()
    objective = recipe.objective()
    objective.network = Exact(objective.network.backbone, recipe.schedule(), None)
    count = 6000
    for y in (torch.tensor([[0.2, 0.4, 0.6, 0.8]]), torch.tensor([[0.8, 0.6, 0.4, 0.2]])):
        told = batch_of(None, y.double().expand(count, -1))
        draws = recipe.predict(objective, {**told, "seed": torch.arange(count)})["expected"]
        draws = draws.flatten(1).double()
        mean, covariance = posterior(y.double())
        sigma = covariance.diag().sqrt()
        assert ((draws.mean(0) - mean[0]) / sigma).abs().max() < 0.06, "4.6 standard errors"
        assert (torch.cov(draws.T) - covariance).abs().max() < 0.06 * sigma.max() ** 2
    apart = posterior(torch.tensor([[0.2, 0.4, 0.6, 0.8], [0.8, 0.6, 0.4, 0.2]]).double())[0]
    assert ((apart[0] - apart[1]) / sigma).abs().max() > 3, (
        "the picture decides much of these volumes"
    )


def test_the_best_network_for_the_loss_is_the_conditional_mean():
    """Least squares on what the objective hands to its network are the exact denoiser's coefficients."""
    recipe = toy()
    mean, covariance = gaussians()
    root = torch.linalg.cholesky(covariance)
    both = mean + torch.randn(40_000, VOXELS + PIXELS, dtype=torch.float64) @ root.T
    volumes, y = both.split([VOXELS, PIXELS], 1)
    examples = recipe.examples(batch_of(volumes, y.clamp(0, 1)))
    t = torch.tensor(0.1)
    x_t = diffuse(recipe.schedule(), examples["image"], t, torch.randn(examples["image"].shape))
    seen = torch.cat([x_t.flatten(1), examples["source"][:, 1, 0].flatten(1)], 1).double()
    seen = torch.cat([seen, torch.ones(len(seen), 1)], 1)
    fit = torch.linalg.lstsq(seen, examples["image"].flatten(1).double()).solution
    alpha, sigma = (each.double().flatten()[0] for each in recipe.schedule()(t, x_t))
    exact = clean_of(x_t.flatten(1).double(), y, alpha, sigma)
    unexplained = (seen @ fit - exact).square().mean().sqrt() / volumes.std()
    assert unexplained < 0.01
    told_nothing = volumes.mean(0).expand_as(exact)
    assert (told_nothing - exact).square().mean().sqrt() / volumes.std() > 0.5


# --------------------------------------------------------------------------- the card's own check
def ellipsoids(count, seed, side=8):
    """Ellipsoids whose half axis along depth is drawn apart from those that a silhouette shows."""
    draw = torch.Generator().manual_seed(seed)
    half = side * (0.2 + 0.2 * torch.rand(count, 3, generator=draw))
    centre = side * 0.12 * (2 * torch.rand(count, 3, generator=draw) - 1)
    centre[:, 0] = 0
    places = torch.arange(side) - (side - 1) / 2
    points = torch.cartesian_prod(places, places, places)
    inside = ((points - centre[:, None]) / half[:, None]).square().sum(-1) < 1
    return inside.reshape(count, 1, *[side] * 3).long()


def trained(steps, **more):
    recipe = dataclasses.replace(DISPR.tiny(), width=32, multiples=(1,), **more)
    recipe = recipe.fitted(of_size(8, 8, 8))
    objective = recipe.objective()
    shapes = ellipsoids(400, 0)
    adam = torch.optim.Adam(objective.players["network"].parameters(), 4e-3)
    for step in range(steps):
        adam.param_groups[0]["lr"] = 4e-3 * min(1, 2 * (1 - step / steps))
        rows = torch.randint(len(shapes), (16,))
        ((_, loss),) = objective.losses({"mask": shapes[rows]})
        adam.zero_grad()
        loss.backward()
        adam.step()
    return recipe, objective


def drawn(model, shapes, first=0):
    recipe, objective = model
    asked = {"mask": shapes, "seed": torch.arange(len(shapes)) + first}
    with torch.no_grad():
        return recipe.predict(objective, asked)["mask"] > 0


def dice(a, b):
    both = (a & b).flatten(1).sum(1)
    return float((2 * both / (a.flatten(1).sum(1) + b.flatten(1).sum(1))).mean())


def correlation(a, b):
    return float(torch.corrcoef(torch.stack([a.double(), b.double()]))[0, 1])


@pytest.fixture(scope="module")
def told_both():
    torch.manual_seed(0)
    return trained(220)


@pytest.fixture(scope="module")
def told_the_mask():
    torch.manual_seed(0)
    return trained(220, intensity=False)


UNSEEN = ellipsoids(50, 1)


def depth_of(shapes):
    """Mean thickness within the silhouette, in voxels."""
    return shapes.flatten(1).sum(1) / shapes.any(2).flatten(1).sum(1)


def test_shapes_have_the_silhouette_and_the_depth_of_their_pictures(told_both):
    made = drawn(told_both, UNSEEN)
    assert dice(made.any(2), UNSEEN.any(2)) > 0.9
    assert correlation(depth_of(made), depth_of(UNSEEN)) > 0.5


def test_without_the_intensity_silhouettes_stay_and_depth_is_guessed(told_the_mask):
    first, second = (drawn(told_the_mask, UNSEEN, first) for first in (0, 100))
    assert dice(first.any(2), UNSEEN.any(2)) > 0.9
    assert abs(correlation(depth_of(first), depth_of(UNSEEN))) < 0.35
    both, either = ((f(first, second)).sum() for f in (torch.logical_and, torch.logical_or))
    assert both / either < 0.9, "several shapes for one picture"


def test_the_shape_follows_the_picture(told_both):
    """Mirrored, and another's: what is drawn goes with the picture, with the same noise."""
    mirrored = UNSEEN.flip(4)
    made = drawn(told_both, mirrored)
    assert dice(made.any(2), mirrored.any(2)) > 0.9
    assert dice(made.any(2), UNSEEN.any(2)) < 0.85
    others = UNSEEN.roll(1, 0)
    assert dice(drawn(told_both, others).any(2), others.any(2)) > 0.9


# ---------------------------------------------------------------------------------------- refusals
def test_a_side_that_is_not_halved_need_not_be_even():
    recipe = dataclasses.replace(DISPR.tiny(), whole_depth=True, patch=1).fitted(of_size(7, 8, 12))
    assert recipe.size == (7, 8, 12)
    mask = (torch.rand(2, 1, 7, 8, 12) < 0.5).long()
    answer = recipe.predict(recipe.objective(), {"mask": mask, "seed": torch.arange(2)})
    assert answer["mask"].shape == mask.shape
    halved = dataclasses.replace(DISPR.tiny(), patch=1, whole_depth=False).fitted(of_size(7, 8, 12))
    assert (
        halved.predict(halved.objective(), {"mask": mask, "seed": torch.arange(2)})["mask"].shape
        == mask.shape
    )
    with pytest.raises(UserError, match=r"1 x 8 x 12 are smaller than this network's stride 2"):
        dataclasses.replace(DISPR.tiny(), patch=1, whole_depth=False).fitted(of_size(1, 8, 12))


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (of_size(8, 8), "a shape is a volume, of three axes"),
        (of_size(8, 8, 8, mask_classes={"mask": 1}), "masks are all empty"),
        (of_size(8, 8, 8, mask_classes={"mask": 4}), "hold 3 labels"),
        (of_size(8, 8, 8, mask_size={}), "no volumes to learn from; --map mask=COLUMN"),
        (
            of_size(8, 8, 8, channels={"picture": 1}, size={"picture": (8, 16)}),
            "mask along axis 0 is 8 x 8 and picture is 8 x 16",
        ),
    ],
)
def test_data_that_are_no_shapes_and_their_pictures(facts, said):
    facts = dataclasses.replace(facts)
    with pytest.raises(UserError, match=said):
        DISPR.tiny().fitted(facts)


def test_pictures_that_do_not_fit():
    recipe = DISPR.tiny().fitted(of_pictures(8, 8, 8))
    seed = torch.zeros(1).long()

    def refused(said, **batch):
        with pytest.raises(UserError, match=said):
            recipe.predict(None, {"seed": seed, **batch})

    dark, other = torch.full((1, 1, 8, 8), -1.0), torch.full((1, 1, 8, 10), -1.0)
    refused("there is no shape to predict", picture=dark)
    refused("no shape to predict", picture=dark + 1, picture_mask=torch.zeros_like(dark).long())
    other[..., 3, 3] = 0
    refused(r"the picture is 8 x 10, and the model was trained on 8 x 8", picture=other)
    refused("must be of one size", picture=dark, picture_mask=torch.ones_like(other).long())
    refused("trained on pictures, and the data have none", mask=torch.ones(1, 1, 8, 8, 8).long())


def test_windows_and_pictures_that_are_not_there():
    with pytest.raises(UsageError, match="--window must be 0"):
        DISPR(window=16)
    with pytest.raises(UserError, match="--told picture: the data have none"):
        dataclasses.replace(DISPR.tiny(), told="picture").fitted(of_size(8, 8, 8))


# --------------------------------------------------------------------------------- the command line
@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of the tiny preset, and the folder with its pictures."""
    folder = tmp_path_factory.mktemp("dispr")
    words = ["train", "dispr", "--preset", "tiny", "--data", "shapes3d:count=40,size=8,bumpy=0.4"]
    assert cli.main([*words, "--train.steps", "3", "--out", str(folder / "run")]) == 0
    return folder / "run"


def picture(side=8, value=60):
    pixels = np.zeros((side, side), np.uint8)
    pixels[2:6, 3:6] = value
    return pixels


def test_a_volume_is_predicted_from_a_picture_file(run, tmp_path, capsys):
    PIL.Image.fromarray(picture()).save(tmp_path / "cell.png")
    out = tmp_path / "out"
    words = [
        "predict",
        run,
        "--data",
        tmp_path / "cell.png",
        "--map",
        "picture=image",
        "--out",
        out,
    ]
    assert cli.main([str(word) for word in [*words, "--samples", 3, "--keep", "draws"]]) == 0, (
        capsys.readouterr()
    )
    volume = nibabel.load(out / "cell-00-mask.nii.gz")
    assert volume.shape == (8, 8, 8) and set(np.unique(volume.dataobj)) <= {0, 1}
    assert volume.header.get_zooms() == (8.0, 8.0, 8.0), "64 mm of the training's field of view"
    entries = json.loads((out / "predictions.json").read_text())["predictions"]
    assert entries[0]["spacing_mm"] == [8.0, 8.0, 8.0]
    share = nibabel.load(out / "cell-expected-mean.nii.gz").get_fdata()
    assert share.shape == (8, 8, 8) and share.min() >= 0 and share.max() <= 1
    likely = np.asarray(nibabel.load(out / "cell-mask-mean.nii.gz").dataobj)
    assert np.array_equal(likely, share >= 0.5)


def test_a_volume_is_predicted_from_an_array_and_from_volumes(run, tmp_path):
    np.savez(tmp_path / "a.npz", picture=picture()[None])
    for data, count in ((["--data", tmp_path / "a.npz"], 1), ([], 5)):
        out = tmp_path / f"out{count}"
        assert cli.main([str(word) for word in ["predict", run, *data, "--out", out]]) == 0
        assert len(list(out.glob("*-mask.nii.gz"))) >= count


def test_pictures_that_cannot_be_told(run, tmp_path, refused):
    PIL.Image.fromarray(picture(10)).save(tmp_path / "large.png")
    PIL.Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "black.png")
    words = ["predict", run, "--out", tmp_path / "out"]
    told = ["--map", "picture=image"]
    said = refused(*words, "--data", tmp_path / "large.png", *told)
    assert "case large: the picture is 10 x 10, and the model was trained on 8 x 8" in said
    assert "is constant" in refused(*words, "--data", tmp_path / "black.png", *told)
    said = refused(*words, "--data", tmp_path / "large.png", *told, "--size", 8, 8, 8)
    assert "has 2 axes (10, 10), but the size asked for is (8, 8, 8); --size takes as many" in said
    affine = np.diag([3.0, 3, 1, 1])
    flat = nibabel.Nifti1Image(picture()[..., None], affine)
    nibabel.save(flat, tmp_path / "fine.nii.gz")
    said = refused(*words, "--data", tmp_path / "fine.nii.gz", *told)
    assert "pixels of 3 x 3 mm, and the model was trained on voxels of 8 x 8 mm" in said
    fitting = [*words[:-1], tmp_path / "fitted", "--data", tmp_path / "large.png", *told]
    assert cli.main([str(word) for word in [*fitting, "--size", 8, 8]]) == 0


def test_data_that_cannot_be_trained_on(tmp_path, refused):
    def said(name, *more, **arrays):
        np.savez(tmp_path / f"{name}.npz", **arrays)
        words = ["train", "dispr", "--preset", "tiny", "--data", tmp_path / f"{name}.npz"]
        return refused(*words, "--out", tmp_path / "run", *more)

    split = np.array(["train"] * 3 + ["test"])
    shapes = np.zeros((4, 8, 8, 8), np.uint8)
    assert "all empty" in said("empty", mask=shapes, split=split)
    shapes[:, 2:6, 2:6, 2:6] = 1
    one = said("one", mask=shapes[:1], split=split[:1])
    assert "has one training case; training needs two or more" in one
    some = shapes.copy()
    for value in (0, 1):
        some[1] = value
        line = said(f"some{value}", mask=some[:2], split=split[:2], case=np.array(["a", "b"]))
        assert "1 of 2 training cases are left out (b): a mask that is empty or fills" in line
    small = said("small", mask=shapes[:, :, 2:5], split=split)
    assert "8 x 3 x 8 are smaller than this network's stride" in small and "--size 8 4 8" in small


def test_a_picture_column_is_told_and_not_the_thickness(tmp_path):
    shapes = np.zeros((6, 8, 8, 8), np.uint8)
    shapes[:, 2:6, 2:6, 3:6] = 1
    pictures = np.random.default_rng(0).integers(1, 255, (6, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "a.npz", mask=shapes, picture=pictures, picture_mask=shapes.max(1))
    cases = open_cases(tmp_path / "a.npz")
    assert set(cases.keys) == {"mask", "picture", "picture_mask"}
    recipe = papers.by_id("dispr").load().tiny().fitted(cases.facts())
    told = recipe.prepared(cases.batch([0]))["condition"][0, 1, 0] * 255
    rounded = told.round().to(torch.uint8).numpy()
    assert recipe.told == "picture"
    assert np.array_equal(rounded, pictures[0] * shapes[0].max(0))

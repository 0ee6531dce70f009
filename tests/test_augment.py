"""Random views of training batches: where voxels go, what moves alike, and that runs stay exact."""

import math

import pytest
import torch

from radiffuse.applications.generation.ddpm import DDPM
from radiffuse.data.dataset import open_cases
from radiffuse.errors import UserError
from radiffuse.nn.augment import Augment, moved, rotation
from radiffuse.training.batches import augmentation
from radiffuse.training.checkpoint import refuse_others
from radiffuse.training.loop import TrainOptions, train
from radiffuse.training.objective import Denoising


def pictures(count, *size, seed=0):
    """Smooth images, and masks of where they are bright."""
    draw = torch.Generator().manual_seed(seed)
    image = torch.randn(count, 1, *size, generator=draw)
    pool = {1: torch.nn.AvgPool1d, 2: torch.nn.AvgPool2d, 3: torch.nn.AvgPool3d}[len(size)]
    image = pool(5, 1, 2)(image)
    return image, (image > 0).long()


def quarter(axes, first, second):
    """A turn by 90 degrees from the axis `first` to `second`."""
    return rotation(torch.full((1,), math.pi / 2), axes, first, second), torch.zeros(1, axes)


@pytest.mark.parametrize(("axes", "plane"), [(2, (0, 1)), (3, (0, 1)), (3, (0, 2)), (3, (1, 2))])
def test_a_quarter_turn_is_exact(axes, plane):
    image, mask = pictures(1, *[8] * axes)
    for x in (image, mask):
        turned = moved(x, *quarter(axes, *plane))
        one_way, other = (torch.rot90(x, k, [plane[0] + 2, plane[1] + 2]) for k in (1, -1))
        assert any(
            torch.allclose(turned.float(), way.float(), atol=1e-5) for way in (one_way, other)
        )
        assert turned.dtype == x.dtype


def test_a_shift_of_whole_voxels_is_exact_and_the_border_goes_on():
    image, mask = pictures(1, 10, 20)
    same = torch.eye(2)[None]
    for x in (image, mask):
        read = moved(x, same, torch.tensor([[0.2, -0.1]]))  # 2 rows down, 2 columns to the left
        assert torch.allclose(read[..., :8, 2:].float(), x[..., 2:, :18].float(), atol=1e-5)
        assert torch.allclose(read[..., 9, 2:].float(), x[..., 9, :18].float(), atol=1e-5)


def test_a_turn_keeps_shapes_on_grids_that_are_not_square():
    rows, columns = torch.meshgrid(torch.arange(40) - 19.5, torch.arange(80) - 39.5, indexing="ij")
    disc = torch.exp(-(rows**2 + (columns - 5) ** 2) / 18)[None, None]
    matrix = rotation(torch.full((1,), math.pi / 3), 2, 0, 1)
    read = moved(disc, matrix, torch.zeros(1, 2))
    total = read.sum()
    middle = torch.stack([(read * rows).sum(), (read * columns).sum()]) / total
    assert float(middle.norm()) == pytest.approx(5, abs=0.02)
    assert float(middle[1]) == pytest.approx(5 * math.cos(math.pi / 3), abs=0.02)
    spread = [
        ((read * (x - m) ** 2).sum() / total) for x, m in zip((rows, columns), middle, strict=True)
    ]
    assert float(spread[0]) == pytest.approx(float(spread[1]), rel=0.01), "round stays round"


@pytest.mark.parametrize("size", [(16, 12), (8, 10, 12)])
def test_images_and_masks_of_a_case_move_alike(size):
    image, mask = pictures(6, *size)
    batch = {"image": image, "mask": mask, "other": 2 * image, "label": torch.arange(6)}
    torch.manual_seed(3)
    found = Augment(mirror=(0, 1), turn=20, zoom=0.2, shift=0.1)(batch)
    assert not torch.allclose(found["image"], image)
    assert torch.allclose(found["other"], 2 * found["image"], atol=1e-6)
    sure = found["image"].abs() > 0.25
    assert torch.equal(found["mask"][sure], (found["image"] > 0).long()[sure])
    assert found["mask"].dtype == torch.int64 and torch.equal(found["label"], batch["label"])


def test_no_label_appears_that_was_not_there():
    _, mask = pictures(8, 16, 16)
    torch.manual_seed(0)
    found = Augment(turn=30, zoom=0.2, shift=0.1)({"mask": 3 * mask})["mask"]
    assert found.unique().tolist() == [0, 3] and not torch.equal(found, 3 * mask)


def test_half_are_mirrored_and_only_along_the_axes_named():
    image = torch.zeros(400, 1, 4, 4)
    image[:, 0, 0, 0] = 1
    torch.manual_seed(0)
    found = Augment(mirror=(1,))({"image": image})["image"]
    assert float(found[:, 0, 0, 0].mean()) == pytest.approx(0.5, abs=0.1)
    assert torch.equal(found[:, 0, 0, 0] + found[:, 0, 0, 3], torch.ones(400))


def test_zoom_changes_the_size_both_ways_within_its_bounds():
    image = torch.zeros(300, 1, 40, 40)
    image[..., 10:30, 10:30] = 1
    torch.manual_seed(0)
    area = Augment(zoom=0.25)({"image": image})["image"].sum((1, 2, 3)) / 400
    assert float(area.min()) == pytest.approx(1.25**-2, abs=0.03)
    assert float(area.max()) == pytest.approx(1.25**2, abs=0.03)
    assert float(area.log().mean()) == pytest.approx(0, abs=0.05)


def test_what_cannot_be_augmented_is_refused():
    line = torch.zeros(2, 1, 8)
    assert Augment(mirror=(0,))({"image": line})["image"].shape == line.shape
    with pytest.raises(UserError, match="one axis are only mirrored"):
        Augment(turn=5)({"image": line})
    with pytest.raises(UserError, match=r"--train.mirror 2: the images have the axes 0 to 1"):
        Augment(mirror=(2,))({"image": torch.zeros(2, 1, 8, 8)})
    with pytest.raises(UserError, match="only real images"):
        Augment(turn=5)({"image": torch.zeros(2, 1, 8, 8, dtype=torch.complex64)})


# ------------------------------------------------------------------------------------ in training
class Pictures:
    fingerprint = "pictures"

    def __init__(self):
        self.image, self.mask = pictures(12, 8, 8)

    def __len__(self):
        return len(self.image)

    def batch(self, indices):
        return {"image": self.image[indices], "mask": self.mask[indices]}


class Recorded(Denoising):
    """Keeps the batches that reach it."""

    def __init__(self):
        recipe = DDPM(channels=1, size=(8, 8), width=8, multiples=(1,), attention=(), blocks=1)
        torch.manual_seed(0)
        inner = recipe.objective()
        super().__init__(inner.network, inner.times)
        self.seen = []

    def losses(self, batch):
        self.seen.append({key: value.clone() for key, value in batch.items()})
        yield from super().losses({"image": batch["image"]})


def run(folder, steps, resume=False, **values):
    objective = Recorded()
    options = TrainOptions(**{"steps": steps, "batch": 4, "mirror": (0, 1), "turn": 15.0, **values})
    train(objective, Pictures(), options, folder, resume=resume)
    return objective.seen


def test_a_run_cut_in_two_sees_the_same_views_as_one_that_was_not(tmp_path):
    whole = run(tmp_path / "whole", 6)
    parts = run(tmp_path / "parts", 2) + run(tmp_path / "parts", 6, resume=True)
    assert len(whole) == len(parts) == 6
    for one, other in zip(whole, parts, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)
    plain = run(tmp_path / "plain", 6, mirror=(), turn=0.0)
    assert not torch.equal(plain[0]["image"], whole[0]["image"])
    first, again = whole[0]["image"], whole[3]["image"]  # 12 cases, 4 a step: the second epoch
    assert not torch.equal(first.sort(0).values, again.sort(0).values)


def test_other_views_are_another_run(tmp_path):
    run(tmp_path, 2)
    with pytest.raises(UserError, match=r"--train.turn is 5.0 now and was 15.0"):
        run(tmp_path, 4, resume=True, turn=5.0)


def test_an_option_that_is_off_was_no_obstacle_before_it_existed(tmp_path):
    refuse_others(tmp_path, {"--train.batch": 4, "--train.turn": 0.0}, {"--train.batch": 4})
    with pytest.raises(UserError, match=r"--train.turn is 5.0 now and was not set"):
        refuse_others(tmp_path, {"--train.turn": 5.0}, {})


def test_volumes_of_thick_slices_are_turned_in_millimetres():
    """A ball stays a ball; turned by voxels it was sheared to twice its length."""
    size, spacing = (64, 64, 14), torch.tensor([1.0, 1.0, 5.0])
    at = [(torch.arange(n) - (n - 1) / 2) * mm for n, mm in zip(size, spacing, strict=True)]
    at = torch.stack(torch.meshgrid(*at, indexing="ij"))
    ball = (at.square().sum(0).sqrt() < 20).float()[None, None]

    def lengths(image):
        inside = at[:, image[0, 0] > 0.5]
        inside = inside - inside.mean(1, keepdim=True)
        return (5 * torch.linalg.eigvalsh(inside @ inside.T / inside.shape[1])).sqrt()

    torch.manual_seed(1)
    turned = Augment(turn=15.0, spacing=(1.0, 1.0, 5.0))({"image": ball})["image"]
    assert float((lengths(turned) / lengths(ball) - 1).abs().max()) < 0.06
    torch.manual_seed(1)
    sheared = Augment(turn=15.0)({"image": ball})["image"]
    assert float((lengths(sheared) / lengths(ball) - 1).abs().max()) > 0.15
    cases = open_cases("brains3d:count=6,size=16")
    options = TrainOptions(turn=5.0)
    assert augmentation(options, cases).spacing == cases.spacing != ()

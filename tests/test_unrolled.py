"""Supervised reconstruction: what data-consistency steps promise, and what training gains."""

from dataclasses import dataclass

import torch
from torch import nn

from radiffuse.acquisition import MRI
from radiffuse.applications.reconstruction.unrolled import (
    Refiner,
    Scans,
    Unrolled,
    trained_unrolled,
)
from radiffuse.data.scan import spread
from radiffuse.inverse import Measurement
from radiffuse.metrics.fidelity import nmse
from radiffuse.operators import Mask
from radiffuse.training.options import TrainOptions


@dataclass(frozen=True)
class Pictures:
    """Cases of images in memory."""

    images: torch.Tensor

    def __len__(self):
        return len(self.images)

    def batch(self, indices):
        return {"image": self.images[indices]}


@dataclass(frozen=True)
class Scanner:
    """As much of a recipe as its supervised baselines ask for."""

    size: tuple[int, ...] = (16, 16)
    times: int = 0

    def acquire(self, batch):
        image = (batch["image"] + 1) / 2
        scanner = MRI("poisson-disc", 3.0, calibration=6, coils=1, noise=0.01, phase=0.0)
        return scanner.simulate(image, list(range(len(image))))


def discs(count, size=16):
    """Discs at random places, in [-1, 1]."""
    generator = torch.Generator().manual_seed(0)
    place = torch.rand(count, 2, 1, 1, generator=generator) * 6 + 5
    grid = torch.stack(torch.meshgrid(*[torch.arange(size)] * 2, indexing="ij")).float()
    inside = (grid - place).square().sum(1, keepdim=True) < 16
    return inside.float() * 1.6 - 0.8


class Constant(nn.Module):
    """A network that knows nothing: what it adds makes the image `value` throughout."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return torch.full_like(x, self.value) - x


def test_a_step_is_the_closed_form_between_measurement_and_network():
    """Of a mask: (y/s^2 + D/r^2) / (1/s^2 + 1/r^2) where measured, D elsewhere."""
    mask = (torch.arange(16.0).reshape(1, 1, 4, 4) % 3 == 0).float()
    x = torch.rand(1, 1, 4, 4)
    measurement = Measurement(mask * x, Mask(mask), std=0.1)
    refiner = Refiner(Constant(0.5), spread=0.2)
    found = Unrolled(refiner, steps=1)(measurement, x)
    between = (x / 0.1**2 + 0.5 / 0.2**2) / (1 / 0.1**2 + 1 / 0.2**2)
    assert torch.allclose(found, torch.where(mask > 0, between, torch.full_like(x, 0.5)), atol=1e-4)


def test_without_steps_the_measurement_is_not_asked_again():
    measurement = Measurement(torch.rand(1, 1, 4, 4), Mask(torch.ones(1, 1, 4, 4)), std=0.1)
    found = Unrolled(Refiner(Constant(0.5)), steps=0)(measurement, torch.rand(1, 1, 4, 4))
    assert torch.allclose(found, torch.full_like(found, 0.5))


def test_the_share_of_the_network_is_learned_through_the_solve():
    x = torch.rand(2, 1, 4, 4)
    measurement = Measurement(x, Mask(torch.ones(2, 1, 4, 4)), std=0.1)
    refiner = Refiner(Constant(0.0), spread=0.1)
    out = Unrolled(refiner, steps=2).reconstruct(measurement, x)
    (out - x).square().sum().backward()
    # a network that is wrong: the less it is trusted, that is the larger r^2, the better
    assert refiner.log_r2.grad < 0


def test_scans_are_measured_once_and_spread_over_patients():
    asked = []

    def acquire(batch):
        asked.append(len(batch["image"]))
        return Scanner().acquire(batch)

    scans = Scans(Pictures(discs(20)), acquire, together=8, most=18)
    assert len(scans) == 3 and [len(group) for group in scans.groups] == [6, 6, 6]
    assert sorted(row for group in scans.groups for row in group) == spread(20, 18)
    assert scans.groups[0][1] - scans.groups[0][0] >= 3
    first, again = scans.scan(1), scans.scan(1)
    assert first[0] is again[0] and asked == [6]
    assert float(first[1].min()) >= 0 and float(first[1].max()) <= 1


def test_training_improves_on_the_plain_reconstruction(tmp_path):
    options = TrainOptions(steps=40, learning_rate=2e-3, warmup=0, ema=(0.05,))
    images = discs(32)
    unrolled = trained_unrolled(
        Scanner(), Pictures(images[:24]), options, tmp_path / "net", steps=1
    )
    acquired, truth = Scanner().acquire({"image": images[24:]}), (images[24:] + 1) / 2
    error = nmse(unrolled(acquired.measurement, acquired.first), truth).mean()
    assert error < 0.8 * nmse(acquired.first, truth).mean()

"""MC-DDPM (Xie & Li 2022): a diffusion of the k-space entries that were not sampled, told the others."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from ...acquisition import Acquired, Acquisition, MaskName
from ...diffusion.losses import discrete_times
from ...diffusion.network import Given
from ...diffusion.noise import Seeded, gaussian
from ...diffusion.sample import prior
from ...diffusion.schedule import Discrete, Stretched
from ...errors import UserError
from ...operators import Fourier
from ...papers import Paper, by_id
from ..backbone import Backbone
from ..law import Law
from ..parts import (
    GridName,
    PredictsName,
    SamplerName,
    WeightName,
    input_of,
    predicts_named,
    weight_named,
)
from ..presets import PRECONDITIONED, SMALL, TINY, TRAINING
from ..ranges import Rule, at_least, more_than, require
from ..recipe import Batch
from ..walked import Walked
from .complex_prior import complex_key, phased
from .measuring import scanner_of
from .presets import UNSAMPLED, trained
from .reconstructing import Reconstructing
from .scanner import Scanner
from .unsampled import Unsampled, UnsampledDenoising, as_parts, drawn_masks, from_parts, noise_of

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["MCDDPM"]


CENTRE = 0.32
"""Share of columns at the centre times the acceleration."""


@dataclass(frozen=True)
class MCDDPM(Reconstructing, Backbone, Walked, Law):
    r"""A network told mask and measurement draws what was not sampled, and touches nothing that was.

    $q(y_t \mid y_0) = N(\bar\alpha_t y_0, \bar\beta_t^2 \bar M)$ with $\bar\beta_t^2 = b^2(1-\bar\alpha_t^2)$, b = 1/2
    (`shrink`), so that the chain begins at half the usual noise; ancestral steps of that chain with its own
    variance (`ddpm-large`). A new mask at every look, of the same kind as is measured. One coil; the images
    of magnitudes get a synthetic phase in training, as in `ComplexPrior`.
    """

    paper: ClassVar[Paper] = by_id("mc-ddpm")
    ONE_COIL: ClassVar[bool] = True
    EXPECTS: ClassVar[str] = (
        "To train: grey images, in any range, or complex ones (two channels), of patients who stand on one side "
        "of the split. To predict: k-space of one coil of an .h5 file, complex (slices, 1, *space), its centre in the "
        "middle, 0 where nothing was measured; or images, of which MRI is simulated. In an evaluation the coils "
        "of full scans are combined. Of k-space `magnitude` is written in its units in place of `image`."
    )
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (
        *(field.name for field in fields(Scanner)),
        *("sampler", "steps", "grid", "start", "stop", "samples", "widen"),
    )
    RULES: ClassVar[dict[str, Rule]] = {
        "timesteps": at_least(2),
        "shrink": more_than(0),
        "accelerations": at_least(1),
        "calibration": at_least(-1),
    }

    multiples: tuple[int, ...] = (1, 1, 2, 2, 4)
    attention: tuple[int, ...] = (4,)
    timesteps: int = 1000
    """Number of cosine betas, T."""
    shrink: float = 0.5
    """b, what the noise of the cosine chain is multiplied by."""
    predicts: PredictsName = "noise"
    """What the network outputs."""
    loss: WeightName = "simple"
    """The loss weight."""
    preconditioned: bool = False
    """Scale the input to unit variance and tell the network log(sigma / alpha) / 4."""
    accelerations: tuple[float, ...] = ()
    """Accelerations of training, one drawn at every look at an image; empty = `acceleration` alone."""
    values: Literal["auto", "real", "parts", "channels"] = "channels"
    mask: MaskName = "uniform-columns"
    calibration: int = -1
    """Columns at the centre that every mask samples; -1: 0.32 / acceleration of them (8 % at 4, 4 % at 8), 0: 8."""
    coils: int = 1
    noise: float = 0.0
    sampler: SamplerName = "ddpm-large"
    grid: GridName = "strided"
    samples: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.coils == 1, "coils", "must be 1: this method knows one coil")
        require(self.values == "channels", "values", "must be channels: real and imaginary part")
        said = "must be mri: what is learned are entries of k-space"
        require(self.measurement == "mri", "measurement", said)

    def fitted(self, facts: "Facts") -> Self:
        """Fill what comes from the data.

        Raises:
            UserError: images that are neither grey nor complex, or masks that cannot be at their size.
        """
        key = complex_key(facts)
        filled = self.filled(facts, 2, facts.size[key]).fitting()
        filled.masks(1)
        filled.make_grid(filled.schedule())
        return (
            filled
            if filled.accelerations
            else replace(filled, accelerations=(filled.acceleration,))
        )

    @classmethod
    def training(cls, preset: str) -> dict[str, Any]:
        """Options of the training loop that go with a preset."""
        paper = trained(35_000, batch=16, decay=0.9999, learning_rate=1e-4, warmup=0, clip=0.0)
        return {**TRAINING.get(preset, {}), **(paper if preset == "paper" else {})}

    def schedule(self) -> Stretched:
        """The chain of cosine betas, its noise times b."""
        return Stretched(Discrete.cosine(self.timesteps), self.shrink)

    def objective(self) -> UnsampledDenoising:
        """Denoising of what random masks leave out of the k-space of training images."""
        scale, clock = input_of(self.data_std, self.preconditioned)
        predicts = predicts_named(self.predicts, self.data_std)
        network = Unsampled(self.unet(condition=2), self.schedule(), predicts, scale, clock)
        times = self.by_law(network.schedule, discrete_times(Discrete.cosine(self.timesteps)))
        weight = weight_named(self.loss, self.data_std)
        return UnsampledDenoising(network, times, weight, self.example)

    def example(self, batch: Batch) -> tuple[Tensor, Batch]:
        """What the masks of this look leave out of k-space, (B, 2, *S), and the rest as conditions."""
        stored = batch["image"]
        kspace = as_parts(Fourier(len(self.size))(phased(stored, stored.shape[1], self.phase)))
        mask = self.masks(len(stored)).to(kspace)
        measured = mask * (kspace + self.noise * gaussian(kspace))
        return (1 - mask) * kspace, {"measured": measured, "free": 1 - mask}

    def masks(self, count: int) -> Tensor:
        """Masks of training, (count, 1, *S) boolean, from the global generator."""
        every = self.accelerations or (self.acceleration,)
        kinds = [(acceleration, self.centre(acceleration)) for acceleration in every]
        return drawn_masks(self.mask, kinds, self.size, count)

    def centre(self, acceleration: float) -> int:
        """`calibration` of masks of an acceleration."""
        share = CENTRE / acceleration
        return self.calibration if self.calibration >= 0 else max(1, round(share * self.size[-1]))

    def acquisition(self, measured: bool = False) -> Acquisition:
        centre = self.centre(self.acceleration)
        return scanner_of(replace(self, calibration=centre), measured)

    def acquire(self, batch: Batch) -> Acquired:
        """As `Scanner.acquire`.

        Raises:
            UserError: k-space of several coils.
        """
        if "kspace" in batch and batch["kspace"].shape[1] > 1:
            raise UserError(
                f"{self.paper.id} knows one coil, and these scans have {batch['kspace'].shape[1]}: take a method "
                "of several coils (score-mri, bayes-mri, diffuse-recon), or combine fully sampled coils into one"
            )
        return super().acquire(batch)

    def drawn(
        self, objective: Any, acquired: Acquired, seeds: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """What was measured, and a draw of what was not: one image in two, for `drawn` has no mean of its own."""
        assert acquired.mask is not None
        measured = as_parts(acquired.measurement.y)
        free = (~acquired.mask).to(measured).expand(len(measured), -1, *measured.shape[2:])
        denoiser = Given(objective.network, measured=measured, free=free).eval()
        noise = noise_of(Seeded(seeds), free)
        times = self.make_grid(denoiser.schedule)
        with torch.no_grad():
            start = prior(denoiser.schedule, measured, noise, float(times[0]))
            drawn = self.make_sampler(denoiser, noise)(start, times)
        if not bool(torch.isfinite(drawn).all()):
            raise UserError(f"the chain of {self.paper.id} diverged; take more steps (--steps)")
        x = Fourier(measured.dim() - 2).adjoint(from_parts(measured + free * drawn))
        return x, x

    @classmethod
    def small(cls) -> Self:
        return cls(**SMALL, **PRECONDITIONED, **UNSAMPLED, accelerations=(4.0, 8.0), steps=20)

    @classmethod
    def tiny(cls) -> Self:
        return cls(**TINY, **PRECONDITIONED, **UNSAMPLED, steps=3)

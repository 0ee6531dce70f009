"""AdaDiff (Dar et al. 2022): a prior of few large steps, adapted to each scan before it answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from ...acquisition import Acquired, MaskName
from ...diffusion.noise import Seeded
from ...errors import UserError
from ...papers import Paper, by_id
from ..adversarial import SMALL, TINY, AdversarialFields
from ..ranges import Rule, at_least, require
from ..recipe import Batch, image_key
from ..sizes import check_least, sides
from .adaptation import Adapted, adapted
from .adversarial_prior import AdversarialPrior
from .complex_prior import complex_key, phased
from .presets import ADVERSARIAL
from .reconstructing import Reconstructing
from .scanner import Scanner
from .stacks import replaced
from .unsampled import as_parts, from_parts

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["AdaDiff"]


@dataclass(frozen=True)
class AdaDiff(Reconstructing, AdversarialFields):
    r"""Eight adversarial steps from the zero-filled image, then the prior itself is fitted to the scan.

    **Rapid phase**: from the zero-filled image, in place of noise, T large steps; after each estimate of $x_0$ what was
    measured replaces its k-space, $x + A^H(y - Ax)$, and the state before is drawn from the posterior.
    **Adaptation**: the last image and one latent are held, and a copy of the generator is fitted to the scan by
    $\|y - A\,G_\theta\|_1$ in `adapt` steps; its k-space is replaced once more. No scan sees another's weights.
    With `values` real the generator makes magnitudes, the phase being held by the coil maps; with channels (the
    paper's scans of several coils) complex images.
    """

    paper: ClassVar[Paper] = by_id("adadiff")
    ALONE: ClassVar[bool] = True
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (
        *(field.name for field in fields(Scanner) if field.name != "values"),
        *("samples", "widen", "adapt", "adapt_rate"),
    )
    RULES: ClassVar[dict[str, Rule]] = {
        "channels": at_least(0),
        "data_std": at_least(0),
        "adapt": at_least(0),
        "adapt_rate": at_least(0),
        "fidelity": at_least(0),
    }

    channels: int = 0
    """Channels of what is made: 2 of complex images, 1 of real ones; 0 = as `values` say."""
    data_std: float = 0.0
    """Standard deviation of the images in [-1, 1], to which measured scans are scaled; 0 = from the data."""
    timesteps: int = 8
    multiples: tuple[int, ...] = (1, 1, 1, 2, 2)
    attention: tuple[int, ...] = (4,)
    fidelity: float = 0.0
    """Weight of the mean absolute error of the generator's estimate beside the critic's word; the paper has none."""
    adapt: int = 1000
    """Steps of the adaptation to each scan; 0 = none."""
    adapt_rate: float = 1e-3
    """Their learning rate."""
    values: Literal["auto", "real", "parts", "channels"] = "channels"
    mask: MaskName = "gaussian-columns"
    samples: int = 1

    @property
    def steps(self) -> int:
        """Steps of the rapid phase."""
        return self.timesteps

    def __post_init__(self) -> None:
        super().__post_init__()
        said = "must be channels (complex images) or real (their phase is held by the coil maps)"
        require(self.values in ("channels", "real"), "values", said)
        require(self.measurement == "mri", "measurement", "must be mri: k-space is replaced")

    def fitted(self, facts: "Facts") -> Self:
        """Fill what comes from the data.

        Raises:
            UserError: images that are neither grey nor complex, or smaller than the networks' strides.
        """
        key = complex_key(facts) if self.values == "channels" else image_key(facts)
        if self.values == "real" and facts.channels[key] != 1:
            raise UserError(
                f"--values real needs grey images, and these have {facts.channels[key]} channels"
            )
        size = self.size or tuple(facts.size[key])
        check_least(size, [self.stride] * len(size), "--multiples or --patch")
        critic = self.patch * 2**self.critic_levels
        if min(size) < critic:
            raise UserError(
                f"images of {sides(size)} are smaller than the critic's stride {critic}; "
                "resize with --size, or lower --critic-levels"
            )
        std = self.data_std or round(float(facts.std), 4) or 0.5
        return replace(self, size=size, channels=1 if self.values == "real" else 2, data_std=std)

    @classmethod
    def training(cls, preset: str) -> dict[str, Any]:
        """Options of the training loop that go with a preset."""
        return dict(ADVERSARIAL.get(preset, {}))

    def objective(self) -> AdversarialPrior:
        """A generator and a critic, and their losses."""
        return AdversarialPrior(self, self.images)

    def images(self, batch: Batch) -> Tensor:
        """What is learned, (B, C, *S) in [-1, 1]: magnitudes, or parts of complex images."""
        stored = batch["image"]
        if self.values == "real":
            return stored
        return as_parts(phased(stored, stored.shape[1], self.phase))

    def drawn(
        self, objective: Any, acquired: Acquired, seeds: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """The answer of one case: one image in two, for no mean is known."""
        (seed,) = seeds
        x, _ = self.adaptation(objective, acquired, seed)
        if not bool(torch.isfinite(x.abs()).all()):
            raise UserError(f"{self.paper.id} diverged; take a lower --adapt-rate")
        return x, x

    def adaptation(
        self, objective: AdversarialPrior, acquired: Acquired, seed: int
    ) -> tuple[Tensor, Adapted]:
        """The answer of one scan, and how its adaptation went."""
        noise, measurement = Seeded([seed]), acquired.measurement
        with torch.no_grad():
            x = self.rapid(objective, acquired, noise)
        z = objective.latents(x, noise)
        t = torch.full((1,), 1 / self.timesteps)
        generator = objective.players["network"].eval()

        def made(network: Callable[..., Tensor]) -> Tensor:
            return self.unit(objective.made(network, x, t, z))

        found = adapted(generator, made, measurement, self.adapt, self.adapt_rate)
        return self.replaced(acquired, found.x), found

    def rapid(self, objective: AdversarialPrior, acquired: Acquired, noise: Seeded) -> Tensor:
        """The image after the first phase, in the generator's unit."""
        x = self.learned(acquired.first)
        step = torch.ones(len(x)) / self.timesteps
        for number in range(self.timesteps, 0, -1):
            t = number * step
            x_0 = self.replaced(acquired, self.unit(objective.estimate(x, t, noise)))
            x = objective.drawn_before(x, self.learned(x_0), t, noise)
        return objective.estimate(x, step, noise)

    @staticmethod
    def replaced(acquired: Acquired, x: Tensor) -> Tensor:
        """An image with what was measured in place of its k-space."""
        zero = torch.zeros((), device=x.device)
        return replaced(acquired.measurement)(x, zero, zero, torch.zeros_like)

    def unit(self, made: Tensor) -> Tensor:
        """An image of the generator as that of a measurement: in [0, 1], or complex."""
        return (made + 1) / 2 if self.values == "real" else from_parts(made)

    def learned(self, x: Tensor) -> Tensor:
        """The inverse of `unit`."""
        return 2 * x - 1 if self.values == "real" else as_parts(x)

    @classmethod
    def small(cls) -> Self:
        return cls(**SMALL, values="real", acceleration=4.0, adapt=100, fidelity=10.0)

    @classmethod
    def tiny(cls) -> Self:
        return cls(**TINY, timesteps=2, values="real", adapt=3)

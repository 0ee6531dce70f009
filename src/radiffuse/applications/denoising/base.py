"""What the denoising recipes share: networks of windows, noisy images given or simulated."""

from abc import ABC, abstractmethod
from collections.abc import Container
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from ...diffusion.denoiser import Denoiser
from ...diffusion.losses import discrete_times
from ...diffusion.network import Network
from ...diffusion.noise import Noise, Seeded
from ...diffusion.schedule import Discrete
from ...diffusion.tiling import Tiled
from ...diffusion.windows import Windows, continued, cut_back, sides_of_window
from ...errors import UserError
from ...metrics.noise_level import estimate_noise
from ...training.objective import Prepared
from ..backbone import Backbone
from ..parts import PredictsName, WeightName, network_of, weight_named
from ..ranges import Rule, at_least, below, more_than
from ..recipe import Batch
from ..sizes import one_size
from ..task import Task
from .task import DENOISING, FROM_CLEAN

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["Windowed"]


@dataclass(frozen=True)
class Windowed(Backbone, ABC):
    """A denoiser of windows of images, or of slices of volumes, that serves whole ones.

    A subclass says the schedule, the examples of training, the simulation and the chain.
    """

    task: ClassVar[Task] = DENOISING
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = ("level", "strength", "overlap")
    ANY_SIZE: ClassVar[bool] = True
    """Images to predict may be of any size."""
    RENAMED: ClassVar[dict[str, str]] = {"slices": "slicewise"}
    """Fields by the names that runs of before give them."""
    RULES: ClassVar[dict[str, Rule]] = {
        "condition_channels": at_least(0),
        "window": at_least(1),
        "overlap": below(1),
        "crops": at_least(1),
        "timesteps": at_least(2),
        "strength": more_than(0),
    }

    condition_channels: int = 0
    """Channels of all that the network is told; from the data."""
    size: tuple[int, ...] = ()
    """Sides of a window, 1 along the axis of slices; empty = from the data and `window`."""
    window: int = 128
    """Side of the windows trained on; smaller images are taken whole."""
    slicewise: bool = True
    """Volumes slice by slice (last axis); false: by windows of three axes."""
    overlap: float = 0.25
    """Share of a window that overlaps its neighbour in prediction."""
    crops: int = 1
    """Windows of each image in a training step."""
    width: int = 64
    """Channels of the first level."""
    multiples: tuple[int, ...] = (1, 2, 2, 4)
    """Width of each level over `width`; each level halves the resolution."""
    timesteps: int = 1000
    """Number of betas of the chain."""
    predicts: PredictsName = "noise"
    """What the network outputs."""
    loss: WeightName = "simple"
    """The loss weight."""
    preconditioned: bool = False
    """Scale the input to unit variance and tell the network log(sigma / alpha) / 4."""
    strength: float = 1.0
    """Factor on the noise level estimated in an image: more removes more."""

    @abstractmethod
    def schedule(self) -> Discrete:
        """The noise schedule."""

    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """Keys the network is told."""

    @abstractmethod
    def examples(self, batch: Batch) -> Batch:
        """What `Prepared` trains on."""

    @abstractmethod
    def corrupted(self, clean: Tensor, level: float | Tensor, noise: Noise | None) -> Tensor:
        """A noisy image from a clean one; `level` one number, or one a case."""

    @abstractmethod
    def restored(self, denoiser: Denoiser, y: Tensor, std: Tensor, noise: Noise) -> Tensor:
        """The clean image from y `(B, C, *S)` of noise `std` `(B,)`."""

    @property
    @abstractmethod
    def simulated(self) -> tuple[float, ...]:
        """Levels at which images without a noisy partner are evaluated."""

    @property
    @abstractmethod
    def simulated_level(self) -> float:
        """The level of them that `predict` simulates."""

    @classmethod
    @abstractmethod
    def training(cls, preset: str) -> dict[str, Any]:
        """Options of the training loop that go with a preset, where they are not its defaults."""

    @property
    def views(self) -> int:
        """Images that the network is shown of a key."""
        return 1

    def shown(self, batch: Batch, key: str) -> Tensor:
        """What the network is shown of a key, `(B, views C, *S)`."""
        return batch[key].float()

    # --- fitting ---------------------------------------------------------------------------------

    def fitted(self, facts: "Facts") -> Self:
        """Fill what comes from the data.

        Raises:
            UserError: a key is missing, keys differ in size, or the window does not fit the network.
        """
        made = [key for key in ("clean", "noisy") if key in facts.size]
        if not made:
            there = ", ".join(facts.size) or "none"
            raise UserError(
                f"the data have neither clean nor noisy images (there are: {there}); "
                "--map noisy=COLUMN clean=COLUMN"
            )
        told = [key for key in self.inputs() if key != "noisy"]
        sides = one_size(facts, [*made, *told])
        stride = self.stride
        if self.window % stride:
            raise UserError(
                f"--window {self.window} does not divide by this network's stride {stride}; "
                f"take {max(stride, round(self.window / stride) * stride)}"
            )
        size = list(
            Windows(sides_of_window(self.window, sides, stride), self.crops, self.overlap).size
        )
        if self._sliced(len(sides)):
            size[-1] = 1
        channels = facts.channels[made[0]]
        more = sum(channels if key == "noisy" else facts.channels[key] for key in self.inputs())
        return self.filled(facts, channels, size, condition_channels=self.views * more)

    def _sliced(self, axes: int) -> bool:
        return self.slicewise and axes > 2

    def slices_of(self, x: Tensor) -> bool:
        """Whether `(B, C, *S)` are volumes that are denoised slice by slice."""
        return self._sliced(x.ndim - 2)

    def flat(self, x: Tensor) -> Tensor:
        """Windows `(M, C, *size)` as the network sees them: without the axis of slices."""
        return x.squeeze(-1) if self._sliced(len(self.size)) else x

    # --- network ---------------------------------------------------------------------------------

    def network(self) -> Network:
        """The denoiser around a new backbone.

        Raises:
            UserError: the recipe has not been fitted to data.
        """
        axes = len(self.size) - self._sliced(len(self.size))
        body = self.unet(axes, condition=self.condition_channels)
        return network_of(body, self.schedule(), self.predicts, self.data_std, self.preconditioned)

    def objective(self) -> Prepared:
        """Denoising of random windows."""
        weight = weight_named(self.loss, self.data_std)
        return Prepared(self.network(), discrete_times(self.schedule()), weight, self.examples)

    # --- prediction ------------------------------------------------------------------------------

    def simulates(self, keys: Container[str]) -> str:
        """What a prediction from data of these keys is made from, where they have no noisy image; else ""."""
        return "" if "noisy" in keys else FROM_CLEAN

    def noisy_of(self, batch: Batch, noise: Noise | None) -> Tensor:
        """The noisy images of a batch, simulated where it has none."""
        if "noisy" in batch:
            return batch["noisy"]
        return self.corrupted(batch["clean"], self.simulated_level, noise)

    def entered(self, batch: Batch) -> Tensor:
        """What `predict` starts from, with the seeds of the batch: noisy images (B, C, *S)."""
        return self.noisy_of(batch, Seeded(int(seed) for seed in batch["seed"]))

    def noise_level(self, y: Tensor) -> Tensor:
        """`strength` times the standard deviation of the noise in y, `(B,)` float64."""
        if self.slices_of(y):
            few = torch.linspace(0, y.shape[-1] - 1, min(8, y.shape[-1])).round().long()
            each = torch.stack([estimate_noise(y[..., k].cpu()) ** 2 for k in few.tolist()])
            return self.strength * each.mean(dim=0).sqrt()
        return self.strength * estimate_noise(y.cpu())

    def denoiser(self, objective: Prepared, told: Batch) -> Denoiser:
        """E[x_0 given x_t and `told`], whole images `(B, C, *S)` of `size` at least."""
        overlap = Windows(self.size, overlap=self.overlap).overlaps
        images = [told[key].float() for key in self.inputs()]
        if not images:
            return Tiled(objective.network, self.size, overlap).eval()
        return Tiled(objective.network, self.size, overlap, image=torch.cat(images, dim=1)).eval()

    def predict(self, objective: Prepared, batch: Batch) -> Batch:
        """The images without their noise.

        Args:
            batch: "seed" int64 (B,) and "noisy", or "clean" to simulate it from, and `inputs`.

        Returns:
            {"denoised": (B, C, *S) in [-1, 1]}.

        Raises:
            UserError: an image is missing that the network is told.
        """
        noise = Seeded(int(seed) for seed in batch["seed"])
        y = self.noisy_of(batch, noise)
        found = {**batch, "noisy": y}
        for key in self.inputs():
            if key not in found:
                raise UserError(f"this model was trained with the key {key}; --map {key}=COLUMN")
        told = {key: continued(self.shown(found, key), self.size) for key in self.inputs()}
        level = self.noise_level(y)
        with torch.no_grad():
            x = self.restored(self.denoiser(objective, told), continued(y, self.size), level, noise)
        return {"denoised": cut_back(x, y.shape[2:]).clamp(-1, 1)}

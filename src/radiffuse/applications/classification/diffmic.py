r"""DiffMIC (Yang et al. 2023): classification by a diffusion of the label vector.

The label y_0 (one-hot) drifts towards the softmax mu of a classifier's logits,

$$ q(y_t \mid y_0, \mu) = N(\alpha_t y_0 + (1-\alpha_t)\mu,\ \sigma_t^2 I), $$

which is the ordinary diffusion of $m = y - \mu$: $m_t = y_t - \mu = \alpha_t m_0 + \sigma_t z$. Its
posterior of three terms (with $\alpha_{ts} = \alpha_t/\alpha_s$, $\beta = 1 - \alpha_{ts}^2$),

$$ E[y_s \mid y_t, y_0] = \tfrac{\alpha_s\beta}{\sigma_t^2} y_0 + \tfrac{\alpha_{ts}\sigma_s^2}{\sigma_t^2} y_t
   + \Big(1 + \tfrac{(\alpha_t-1)(\alpha_{ts}+\alpha_s)}{\sigma_t^2}\Big)\mu, $$

is then the ordinary one of m, shifted back. Schedule, sampler and objective are those of any image;
the backbone adds mu at its input (`nn.labels`).
"""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ...diffusion.averaging import Averaging
from ...diffusion.denoiser import Denoiser
from ...diffusion.losses import discrete_times
from ...diffusion.network import Given
from ...diffusion.noise import Seeded, derive
from ...diffusion.sample import DDPM, grids
from ...diffusion.schedule import Discrete
from ...errors import UserError
from ...nn.labels import LabelNetwork
from ...papers import Paper, by_id
from ..parts import check_timesteps
from ..ranges import Checked, Rule, at_least, between, more_than, one_of, one_or_more, up_to
from ..recipe import Batch, check_fitted, classes_of, image_key
from ..sizes import check_shape
from ..task import Task
from .dual_guided import DualGuided, on_simplex
from .networks import check_patches, network_of, prior_of
from .presets import SMALL, TINY, TRAINING
from .task import CLASSIFICATION

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["DiffMIC"]

TOLD = 250.0
"""sigma / alpha from which on estimates of an "edm" network count for the answer: the whole of these chains. With
outputs wrong by 0.1 the root mean square error of the probabilities of 20 chains was 0.015 so, 0.021 with a bound of
10, 0.064 by the chains' ends."""


@dataclass(frozen=True)
class DiffMIC(Checked):
    """A diffusion of the label vector about the answer of a classifier of global and local view.

    The defaults are the paper's where it says (224 pixels, T = 1000, 6 patches of 32).

    Apart from the authors' code: no weights trained elsewhere, group and layer norm in place of batch
    norm, patches keep every channel (there: the first alone), times are stratified (there: pairs t and
    T - t), and the chain begins where it was trained to begin (see `start`).
    """

    paper: ClassVar[Paper] = by_id("diffmic")
    task: ClassVar[Task] = CLASSIFICATION
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = ("steps", "start", "draws")
    BEFORE: ClassVar[dict[str, Any]] = {"prior_rate": 1.0}

    RULES: ClassVar[dict[str, Rule]] = {
        "channels": at_least(0),
        "size": at_least(1),
        "classes": at_least(0),
        "timesteps": at_least(2),
        "width": at_least(1),
        "stem": one_of(1, 2, 4),
        "prior_blocks": one_or_more(at_least(1)),
        "crop": at_least(1),
        "patches": at_least(1),
        "top": up_to(1),
        "blocks": one_or_more(at_least(1)),
        "features": at_least(1),
        "dual": at_least(0),
        "alone": at_least(0),
        "prior_rate": more_than(0),
        "turn": between(0, 180),
        "steps": at_least(1),
        "start": up_to(1),
        "draws": at_least(1),
    }

    channels: int = 0
    """Channels of the image; 0 = from the data."""
    size: tuple[int, ...] = ()
    """Spatial size; empty = from the data."""
    classes: int = 0
    """Number of classes; 0 = from the data."""
    timesteps: int = 1000
    """T of the chain, betas linear from 1e-4 to 0.02 (at T = 1000)."""
    width: int = 64
    """Channels of the first stage of every ResNet."""
    stem: int = 4
    """Factor by which the first layer of every ResNet shrinks the image: 1, 2 or 4."""
    prior_blocks: tuple[int, ...] = (3, 4, 6, 3)
    """Blocks a stage of the classifier's two networks."""
    bottleneck: bool = True
    """Their blocks have three convolutions (ResNet-50)."""
    crop: int = 32
    """Side of a patch in voxels."""
    patches: int = 6
    """Patches of the local branch."""
    top: float = 1.0
    """Share of the highest saliency whose mean is the global logit."""
    likely: bool = False
    """Weigh each class's saliency by its global probability where patches are chosen (see
    `nn.dual`); the paper sums the classes as they are."""
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    """Blocks a stage of the denoiser's image encoder (ResNet-18)."""
    features: int = 6144
    """Length of the image's feature vector and of the denoiser's hidden layers."""
    predicts: Literal["noise", "edm"] = "noise"
    """What the denoiser outputs. Noise is the paper's; with few steps of training "edm" (Karras et al.
    2022) learns the label where the noise is strong, and errors are not blown up by 1 / alpha."""
    dual: float = 0.5
    """Weight of the two discrepancies (MMD)."""
    alone: int = 1200
    """First steps, in which the classifier learns alone (the authors: 15 epochs)."""
    prior_rate: float = 0.2
    """The classifier's learning rate over that of the denoiser."""
    turn: float = 30.0
    """Largest random rotation in training, degrees."""
    flip: bool = True
    """Mirror half of the images in training."""
    steps: int = 1000
    """Sampling steps."""
    start: float = 1.0
    """Time at which sampling starts, from N(mu, I) whatever it is. The authors' test code starts at
    0.06 in 60 steps (fundus) or 0.25 in 250 (skin), where the chain's own noise is far smaller."""
    draws: int = 1
    """Chains of the label vector a case, averaged into its probability: where they end, the paper's answer, or of
    an "edm" network all that they estimate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_timesteps("linear", self.timesteps)

    @classmethod
    def training(cls, preset: str) -> dict[str, Any]:
        """Options of the training loop that go with a preset."""
        return dict(TRAINING.get(preset, {}))

    def fitted(self, facts: "Facts") -> Self:
        """Fill what comes from the data.

        Raises:
            UserError: no image, no labels, one class only, or patches that do not fit the images.
        """
        key = image_key(facts, "image")
        classes = classes_of(facts, self.classes, "classification needs")
        filled = dataclasses.replace(
            self,
            channels=self.channels or facts.channels[key],
            size=self.size or tuple(facts.size[key]),
            classes=classes,
        )
        check_patches(filled)
        return filled

    def schedule(self) -> Discrete:
        """The chain."""
        return Discrete.linear(self.timesteps)

    def objective(self) -> DualGuided:
        """Noise prediction and the classifier, side by side.

        Raises:
            UserError: the recipe has not been fitted to data.
        """
        check_fitted(self, "channels", "size", "classes")
        prior = prior_of(self)
        return DualGuided(
            network_of(self),
            prior,
            discrete_times(self.schedule()),
            self.classes,
            self.dual,
            self.alone,
            self.turn,
            self.flip,
            self.prior_rate,
        )

    def denoiser(self, objective: DualGuided, image: Tensor, mean: Tensor) -> Denoiser:
        """E[y_0 - mu given m_t and the image], for N rows of mu (N, C), image (B, C, *S)."""
        backbone = objective.network.backbone
        assert isinstance(backbone, LabelNetwork)
        return Given(objective.network, mean=mean, features=backbone.encode(image))

    def draw(self, denoiser: Denoiser, mean: Tensor, noise: Seeded) -> Tensor:
        """Label vectors y_0 (N, C) from the chain, which begins at N(mu, I); mean is mu (N, C)."""
        times = grids.uniform(self.steps, self.start, 0.0)
        return DDPM(denoiser, noise)(noise(mean), times) + mean

    @torch.no_grad()
    def predict(self, objective: DualGuided, batch: Batch) -> Batch:
        """The class of each image.

        Args:
            batch: "image" (B, C, *S) in [-1, 1] and "seed" int64 (B,).

        Returns:
            "probability" (B, classes), the mean of where the chains end, moved to the nearest vector of
            probabilities: a mean of one-hot vectors is one. Of an "edm" network the mean of all that they
            estimated on their way (`Averaging`), the same but for less chance; estimates of one of noise are
            wrong by sigma / alpha times its error. "label" int64 (B,), its largest.
            "prior_probability" (B, classes). "spread" (B,), 1 less the squared shares of the
            classes that the draws are nearest to: the chance that two draws differ; 0 for one draw.

        Raises:
            UserError: images of another shape than those of training, or a training that ended before the denoiser
                began to learn.
        """
        image, seeds = batch["image"], [int(seed) for seed in batch["seed"]]
        check_shape(image, self.channels, self.size)
        if 0 < (steps := int(objective.seen())) <= self.alone:
            raise UserError(
                f"the denoiser of this run has learned nothing: the first {self.alone} steps train the classifier "
                f"alone (--alone), and there were {steps}; train longer (--resume)"
            )
        prior = objective.players["prior"](image).fusion.float().softmax(1)
        mean = prior.repeat(self.draws, 1)
        noise = Seeded(derive(seed, "draw", k) for k in range(self.draws) for seed in seeds)
        told = Averaging(self.denoiser(objective, image, mean).eval(), TOLD)
        ends = self.draw(told, mean, noise)
        expected = told.expected(ends - mean) + mean if self.predicts == "edm" else ends
        shape = (self.draws, len(image))
        probability = on_simplex(expected.unflatten(0, shape).mean(0))
        shares = F.one_hot(ends.unflatten(0, shape).argmax(2), self.classes).float().mean(0)
        return {
            "probability": probability,
            "label": probability.argmax(1),
            "prior_probability": prior,
            "spread": 1 - shares.square().sum(1),
        }

    @classmethod
    def small(cls) -> Self:
        return cls(**SMALL)

    @classmethod
    def tiny(cls) -> Self:
        return cls(**TINY)

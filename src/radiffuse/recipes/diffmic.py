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
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..denoise import Denoiser, Given, Network
from ..errors import UserError
from ..kernels import diffuse
from ..losses import Times, discrete_times
from ..nn.augment import turned
from ..nn.dual import DualPrior, window_sides
from ..nn.labels import LabelNetwork
from ..noise import Seeded, derive, gaussian
from ..papers import Paper, by_id
from ..parametrization import NOISE
from ..sample import DDPM, grids
from ..schedule import Discrete
from ..tasks.base import Task
from ..tasks.classification import CLASSIFICATION
from .base import Batch

if TYPE_CHECKING:
    from ..data.dataset import Facts

__all__ = ["DiffMIC", "DualGuided", "mmd"]

TRAINING: dict[str, dict[str, Any]] = {
    "paper": {"batch": 32, "learning_rate": 1e-3, "warmup": 5000, "betas": (0.9, 0.999)},
    "small": {
        "batch": 32,
        "learning_rate": 1e-3,
        "warmup": 100,
        "cooldown": 0.5,
        "weight_decay": 0.02,
        "precision": "bf16",
        "ema": (0.05,),
        "minutes": 35.0,
    },
    "tiny": {"batch": 8, "learning_rate": 2e-3, "warmup": 5, "steps": 60},
}


def mmd(a: Tensor, b: Tensor) -> Tensor:
    r"""Squared maximum mean discrepancy of two sets of vectors (N, C), (M, C), all pairs counted.

    $E\,k(a,a') + E\,k(b,b') - 2E\,k(a,b)$ with $k(u,v) = \exp(-|u-v|^2/C^2)$, as in the authors' code:
    the mean over the C entries, divided by C once more.
    """

    def kernel(u: Tensor, v: Tensor) -> Tensor:
        squares = (u[:, None] - v[None]).square().mean(2)
        return torch.exp(-squares / u.shape[1]).mean()

    return kernel(a, a) + kernel(b, b) - 2 * kernel(a, b)


def on_simplex(y: Tensor) -> Tensor:
    r"""The nearest rows of probabilities to y (B, C): $\max(y - \tau, 0)$ with sum 1 (Held 1974)."""
    ordered = y.sort(1, descending=True).values
    count = torch.arange(1, y.shape[1] + 1, device=y.device)
    tau = (ordered.cumsum(1) - 1) / count
    last = (ordered > tau).sum(1, keepdim=True) - 1
    return (y - tau.gather(1, last)).clamp_min(0)


class DualGuided:
    """Noise prediction under three guides, and the cross-entropy of the classifier that gives them.

    A step has two turns, as in the paper: "network" learns the noise of labels drifting to the
    fusion, and by `mmd` that of labels drifting to the global and to the local guide, all three with
    the same noise and time; then "prior" takes a step of cross-entropy on its fusion. The guides are
    detached. In the first `alone` steps only the prior learns.

    Args:
        network: denoiser of label vectors, "network" its backbone.
        prior: `DualPrior`.
        times: the law of t.
        classes: C.
        dual: weight of the two discrepancies.
        alone: steps of the prior alone.
        turn: largest angle of augmentation in degrees; `flip`: mirror as well.
    """

    def __init__(
        self,
        network: Network,
        prior: DualPrior,
        times: Times,
        classes: int,
        dual: float = 0.5,
        alone: int = 0,
        turn: float = 0.0,
        flip: bool = False,
    ) -> None:
        self.players: dict[str, nn.Module] = {"network": network.backbone, "prior": prior}
        self.network, self.times, self.classes = network, times, classes
        self.dual, self.alone, self.turn, self.flip = dual, alone, turn, flip

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        counter = self._counter()
        step, y_0 = int(counter), self.one_hot(batch)
        image = turned(batch["image"], self.turn, self.flip)
        look = self.players["prior"](image)
        if step >= self.alone:
            guides = [logits.detach().float().softmax(1) for logits in look[:3]]
            yield "network", self.noise_loss(image, y_0, guides)
        yield "prior", F.cross_entropy(look.fusion.float(), batch["label"])
        counter.fill_(step + 1)  # not += 1: every micro-batch of a step comes by here

    def noise_loss(self, image: Tensor, y_0: Tensor, guides: list[Tensor]) -> Tensor:
        """Squared error under the fusion, plus the discrepancies under the two branches."""
        z, t = gaussian(y_0), self.times(len(y_0))
        mean, several = torch.cat(guides), len(guides)
        t_all = t.repeat(several)
        m_t = diffuse(
            self.network.schedule, y_0.repeat(several, 1) - mean, t_all, z.repeat(several, 1)
        )
        out = self.playing().raw(m_t, t_all, mean=mean, image=image).float()
        fusion, *branches = out.chunk(several)
        loss = (z - fusion).square().mean()
        return loss + self.dual * sum((mmd(z, each) for each in branches), torch.zeros_like(loss))

    def one_hot(self, batch: Batch) -> Tensor:
        """y_0 (B, C).

        Raises:
            UserError: there are no labels, or one is not a known class.
        """
        if "label" not in batch:
            raise UserError("classification learns from labels, and the data have no key 'label'")
        label = batch["label"]
        if bool((label < 0).any()) or bool((label >= self.classes).any()):
            raise UserError(f"labels run from 0 to {self.classes - 1}, not {label.tolist()}")
        return F.one_hot(label, self.classes).to(batch["image"].dtype)

    def playing(self) -> Network:
        """The denoiser around the player as the loop has it."""
        n = self.network
        return Network(self.players["network"], n.schedule, n.predicts, n.scale, n.clock)

    def _counter(self) -> Tensor:
        """Steps so far, kept with the weights so that a run can be stopped and go on."""
        counter = self.players["prior"].seen
        assert isinstance(counter, Tensor)
        return counter


@dataclass(frozen=True)
class DiffMIC:
    """The defaults are the paper's where it says (224 pixels, T = 1000, 6 patches of 32).

    Apart from the authors' code: no weights trained elsewhere, group and layer norm in place of batch
    norm, patches keep every channel (there: the first alone), times are stratified (there: pairs t and
    T - t), and the chain begins where it was trained to begin (see `start`).
    """

    paper: ClassVar[Paper] = by_id("diffmic")
    task: ClassVar[Task] = CLASSIFICATION
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = ("steps", "start", "draws")

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
    dual: float = 0.5
    """Weight of the two discrepancies (MMD)."""
    alone: int = 1500
    """First steps, in which the classifier learns alone (the authors: 15 epochs)."""
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
    """Draws of the label vector a case, averaged into its probability."""

    @classmethod
    def training(cls, preset: str) -> dict[str, Any]:
        """Options of the training loop that go with a preset."""
        return dict(TRAINING.get(preset, {}))

    def fitted(self, facts: "Facts") -> Self:
        """Fill what comes from the data.

        Raises:
            UserError: no image, no labels, one class only, or patches that do not fit the images.
        """
        if "image" not in facts.channels:
            raise UserError("the data hold no image; name the column with --map image=COLUMN")
        classes = self.classes or facts.classes
        if classes < 2:
            found = "one class only" if classes else "no labels"
            raise UserError(
                f"classification needs two classes or more, and the data have {found}; "
                "--map label=COLUMN names the column of labels"
            )
        filled = dataclasses.replace(
            self,
            channels=self.channels or facts.channels["image"],
            size=self.size or tuple(facts.size["image"]),
            classes=classes,
        )
        filled._check_patches()
        return filled

    def _check_patches(self) -> None:
        stride = self.stem * 2 ** (len(self.prior_blocks) - 1)
        sides = " x ".join(str(side) for side in self.size)
        if min(self.size) < max(self.crop, stride):
            raise UserError(
                f"images of {sides} are smaller than a patch ({self.crop}) or the network's stride "
                f"({stride}); use larger images (--size), or lower --crop, --stem or --prior-blocks"
            )
        grid = [-(-side // stride) for side in self.size]
        places = 1
        for cells, side in zip(grid, window_sides(grid, self.size, self.crop), strict=True):
            places *= cells - side + 1
        if places < self.patches:
            raise UserError(
                f"images of {sides} have room for {places} patches of {self.crop} at stride {stride}, "
                f"not {self.patches}; lower --patches, --crop or --stem"
            )

    def schedule(self) -> Discrete:
        """The chain."""
        return Discrete.linear(self.timesteps)

    def objective(self) -> DualGuided:
        """Noise prediction and the classifier, side by side.

        Raises:
            UserError: the recipe has not been fitted to data.
        """
        if not self.channels or not self.size or not self.classes:
            raise UserError("channels, size and classes are not set; fit the recipe to data first")
        axes, kind = len(self.size), {"width": self.width, "stem": self.stem}
        prior = DualPrior(
            axes,
            self.channels,
            self.classes,
            blocks=self.prior_blocks,
            bottleneck=self.bottleneck,
            crop=self.crop,
            patches=self.patches,
            top=self.top,
            likely=self.likely,
            **kind,
        )
        backbone = LabelNetwork(
            axes,
            self.channels,
            self.classes,
            self.timesteps,
            self.features,
            blocks=self.blocks,
            **kind,
        )
        schedule, levels = self.schedule(), self.timesteps
        network = Network(backbone, schedule, NOISE, clock=lambda t, alpha, sigma: t * levels)
        times = discrete_times(schedule)
        return DualGuided(
            network, prior, times, self.classes, self.dual, self.alone, self.turn, self.flip
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
            "probability" (B, classes), the mean of the draws, moved to the nearest vector of
            probabilities: a mean of one-hot vectors is one. "label" int64 (B,), its largest.
            "prior_probability" (B, classes). "spread" (B,), root of the draws' variance, summed over
            classes; 0 for one draw.

        Raises:
            UserError: images of another shape than those of training.
        """
        image, seeds = batch["image"], [int(seed) for seed in batch["seed"]]
        self._check(image)
        prior = objective.players["prior"](image).fusion.float().softmax(1)
        mean = prior.repeat(self.draws, 1)
        noise = Seeded(derive(seed, "draw", k) for k in range(self.draws) for seed in seeds)
        denoiser = self.denoiser(objective, image, mean).eval()
        drawn = self.draw(denoiser, mean, noise).unflatten(0, (self.draws, len(image)))
        probability = on_simplex(drawn.mean(0))
        spread = drawn.var(0, correction=0).sum(1).sqrt()
        return {
            "probability": probability,
            "label": probability.argmax(1),
            "prior_probability": prior,
            "spread": spread,
        }

    def _check(self, image: Tensor) -> None:
        shape = (self.channels, *self.size)
        if tuple(image.shape[1:]) != shape:
            here, sides = (" x ".join(map(str, each)) for each in (image.shape[1:], shape))
            raise UserError(f"images are {here}, and the model was trained on {sides}; use --size")

    @classmethod
    def small(cls) -> Self:
        return cls(
            width=32,
            stem=2,
            prior_blocks=(1, 1, 1),
            bottleneck=False,
            crop=16,
            patches=4,
            likely=True,
            blocks=(1, 1, 1),
            features=256,
            alone=1000,
            turn=15.0,
            steps=50,
            draws=20,
        )

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            width=8,
            stem=2,
            prior_blocks=(1, 1),
            bottleneck=False,
            crop=4,
            patches=2,
            likely=True,
            blocks=(1, 1),
            features=32,
            timesteps=100,
            alone=0,
            turn=10.0,
            steps=10,
            draws=4,
        )

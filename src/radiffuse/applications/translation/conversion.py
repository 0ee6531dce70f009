"""What conversion adds to a conditional diffusion: the paper's order of steps, and a learned first guess."""

from collections.abc import Iterator

from torch import Tensor

from ...diffusion.kernels import diffuse
from ...diffusion.noise import gaussian
from ...diffusion.residual import Residual
from ...diffusion.sample import Sampler
from ...diffusion.sample.base import State
from ...training.objective import Prepared
from ..recipe import Batch

__all__ = ["CorrectFirst", "GuessedImage"]


class CorrectFirst(Sampler):
    """Langevin steps at t, then the predictor's step from t to s: the paper's order.

    (Song et al. 2021 predict first; see `sample.Then`.)
    """

    def __init__(self, corrector: Sampler, predictor: Sampler) -> None:
        super().__init__(predictor.denoiser, predictor.noise)
        self.corrector, self.predictor, self.order = corrector, predictor, predictor.order

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        x_t, _ = self.corrector.step(x_t, t, t, None)
        return self.predictor.step(x_t, t, s, state)


class GuessedImage(Prepared):
    r"""`Prepared` around a first guess, which learns beside it and is not moved by its loss.

    The player "guess" learns the Gaussian likelihood of the target, each voxel's weighted by its
    deviation (beta = 1/2 of Seitzer et al. 2022), lest what is sure take all of the learning.
    """

    network: Residual

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        batch = self.prepare(batch)
        x_0, image = batch["image"].float(), batch["source"]
        mean, std = self.players["guess"](image)
        told = {"image": image, "mean": mean.detach(), "std": std.detach()}
        t = self.times(len(x_0))
        x_t = diffuse(self.network.schedule, x_0, t, gaussian(x_0))
        playing = self._playing()
        assert isinstance(playing, Residual)
        estimate, gain = playing.with_gain(x_t, t, **told)
        unit = gain.square().flatten(1).mean(1).clamp_min(1e-12)
        yield "network", ((estimate - x_0).square().flatten(1).mean(1) / unit).mean()
        unlikely = ((x_0 - mean) / std).square() / 2 + std.log()
        yield "guess", (told["std"] * unlikely).mean() / told["std"].mean()

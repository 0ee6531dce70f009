"""Chains and scaffolds from a trained network, in Angstrom: functions of a recipe's fields."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ....diffusion.network import Given
from ....diffusion.noise import Noise, Seeded, derive
from ....diffusion.sample import DDPM, Sampler, grids, prior
from ....errors import UserError
from ....training.objective import device_of
from ...recipe import Batch
from .chains import SCALE, alphas, lengths
from .motif import find_motif, numbered_from_one

__all__ = ["drawn_chains", "drawn_length", "scaffolds"]


def drawn_chains(recipe: Any, objective: Any, seeds: Tensor) -> Batch:
    """One chain a seed (B,): "coords" (B, N, 3) about its mean, 0 beyond "length" (B,)."""
    drawn = [int(seed) for seed in seeds]
    counts = [recipe.length or drawn_length(recipe.lengths, seed) for seed in drawn]
    mask = (torch.arange(max(counts)) < torch.tensor(counts)[:, None]).float()
    mask = mask.to(device_of(objective))
    denoiser = Given(objective.network, mask=mask).eval()
    x = _walked(recipe, DDPM(denoiser, _Within(Seeded(drawn), recipe.longest), w=1.0), mask)
    mean = (x * mask[..., None]).sum(1, keepdim=True) / mask.sum(1)[:, None, None]
    coords = x.new_zeros(len(drawn), recipe.longest, 3)
    coords[:, : x.shape[1]] = (x - mean) * mask[..., None] * SCALE
    return {"coords": coords, "length": torch.tensor(counts, device=x.device)}


def drawn_length(law: Sequence[int], seed: int) -> int:
    """A length by the quantiles `law`, evenly spaced from 0 to 1."""
    share = derive(seed, "length") / 2**63
    return round(float(torch.quantile(torch.tensor(law, dtype=torch.float64), share)))


def scaffolds(recipe: Any, objective: Any, batch: Batch) -> Batch:
    """A scaffold a case: "coords" (B, N, 3) about the middle of its motif, "motif" (B, N), "length" (B,).

    Raises:
        UserError: no motif is set, or a case does not hold it.
    """
    if not recipe.motif:
        raise UserError(
            "a scaffold needs a motif: --set motif=A10-25; `radiffuse sample` makes chains without"
        )
    cases = range(len(batch["coords"]))
    made = [
        _scaffold(recipe, objective, {k: v[row : row + 1] for k, v in batch.items()})
        for row in cases
    ]
    most = max(batch["coords"].shape[1], recipe.length)
    found = {
        key: torch.stack([_padded(one[key], most) for one in made]) for key in ("coords", "motif")
    }
    return {**found, "length": torch.stack([one["length"] for one in made])}


def _scaffold(recipe: Any, objective: Any, batch: Batch) -> Batch:
    """That of one case, (N, 3), (N,) and ()."""
    device = device_of(objective)
    chain = alphas(batch["coords"])[0, : int(lengths(batch)[0])]
    unnamed = "residues" not in batch
    named = numbered_from_one(len(chain)) if unnamed else batch["residues"][0, : len(chain)].cpu()
    there = chain.isfinite().all(-1)
    motif = find_motif(recipe.motif, named, there, recipe.length, recipe.before)
    if motif.length > recipe.longest:
        raise UserError(
            f"motif {recipe.motif}: its chain has {motif.length} residues, and the network was trained on up to "
            f"{recipe.longest}; name a length of the scaffold, --set length=N"
        )
    given, places = chain[list(motif.rows)], list(motif.places)
    y, known = torch.zeros(2, 1, motif.length, 3, device=device)
    y[0, places], known[0, places] = ((given - given.mean(0)) / SCALE).to(y), 1.0
    seed = int(batch["seed"][0])
    count = recipe.particles if recipe.conditioning == "smcdiff" else 1
    noise = Seeded(derive(seed, "particle", k) for k in range(count))
    mask = torch.ones(count, motif.length, device=device)
    denoiser = Given(objective.network, mask=mask).eval()
    x = _walked(recipe, recipe.make_sampler(denoiser, y, known, noise), mask)
    chosen = x[derive(seed, "chosen") % count] * SCALE
    length = torch.tensor(motif.length, device=device)
    return {"coords": chosen, "motif": known[0, :, 0], "length": length}


def _walked(recipe: Any, sampler: Sampler, mask: Tensor) -> Tensor:
    """The end of a chain from noise, (B, N, 3)."""
    schedule, like = recipe.schedule(), mask.new_zeros(*mask.shape, 3)
    start = prior(schedule, like, sampler.noise)
    return sampler(start, grids.strided(schedule, recipe.steps))


class _Within:
    """Noise of chains cut from that of `most` residues, so that a chain's does not depend on the others' lengths."""

    def __init__(self, noise: Noise, most: int) -> None:
        self.noise, self.most = noise, most

    def __call__(self, like: Tensor) -> Tensor:
        return self.noise(like.new_zeros(len(like), self.most, 3))[:, : like.shape[1]]


def _padded(x: Tensor, most: int) -> Tensor:
    """x (N, *) with zeros up to `most`."""
    return torch.cat([x, x.new_zeros(most - len(x), *x.shape[1:])])

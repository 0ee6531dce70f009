"""Evaluation of generated backbones and of scaffolds: geometry, folds, diversity, novelty; motifs by particles."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....data.dataset import Cases
from ....diffusion.noise import derive
from ....errors import UserError
from ....metrics.estimate import Metric, average, average_per_patient, refused
from ....report.traces import write_traces
from ....training import processes
from ....training.objective import device_of
from ...evaluation.asked import Asked, spread
from ...evaluation.progress import progress_bar
from . import measures
from .baselines import random_chains
from .chains import alphas, lengths

__all__ = ["evaluate_backbones"]

COUNT, PROBLEMS, MOTIF = 24, 6, 16
"""Chains that are made, held-out chains whose motif is scaffolded, residues of a motif (the middle of its chain)."""
COMPARED, TRAINING = 8, 200
"""Chains whose TM-scores are computed, and training chains they are compared with, at most."""
SHOWN = 12
Chain = np.ndarray


def evaluate_backbones(
    recipe: Any, objective: Any, train: Cases, held_out: Cases, asked: Asked
) -> dict[str, Any]:
    """Chains made from seeds beside held-out ones, and scaffolds of motifs of held-out chains.

    "baselines" of chains are random ones of training angles; of scaffolds, the same network without weights
    (`replacement`), with the motif fixed at all times (`fixed`), with fewer particles (`K = 4`), and the best window of
    the chains made without motif, turned onto it (`unconditional + alignment`). "baseline" is `replacement`.
    "reference" is held-out chains themselves. Distances of laws of angles are to those of held-out chains; of these
    themselves, to those of training chains.

    Args:
        recipe, objective: a trained method of the task.
        train, held_out: its data.
        asked: what `evaluate` was asked for.

    Raises:
        UserError: biotite or tmtools is not installed, or there are fewer than two fitting held-out chains.
    """
    measures.require_proteins()
    if not processes.is_main():
        return {}
    training, _ = _read(recipe, train)
    real, cases = _read(recipe, held_out)
    if len(real) < 2:
        raise UserError(f"{held_out.source}: fewer than two chains to compare with: {recipe.UNFIT}")
    count = asked.count or COUNT
    made = _made(recipe, objective, count, asked)
    random = random_chains(training, [len(chain) for chain in made], asked.seed)
    some = [real[row] for row in spread(len(real), count)]
    chosen = spread(len(real), min(PROBLEMS, count))
    scaffolds = _scaffolds(recipe, objective, cases.take(chosen), asked)
    own, *others = scaffolds
    found = {name: _of_scaffolds(each) for name, each in scaffolds.items()}
    windows = _windows(made, scaffolds[own])
    if asked.folder_for_pictures is not None:
        _draw(asked, {"generated": made, "real": some, "baseline": random}, scaffolds[own])
    return asked.record(
        recipe,
        train,
        held_out,
        {
            "count": count,
            "seed": asked.seed,
            "steps": recipe.steps,
            "particles": recipe.particles,
            "problems": len(chosen),
            "motif": MOTIF,
            "compared": f"{COMPARED} chains with {TRAINING} of training, both hands",
            "baseline": "replacement",
        },
        method={**_of_chains(made, real, training), **found[own]},
        baseline=found["replacement"],
        baselines={
            "random chains": _of_chains(random, real, training),
            **{name: found[name] for name in others},
            "unconditional + alignment": windows,
        },
        reference=_of_chains(some, training, training),
    )


def _read(recipe: Any, cases: Cases) -> tuple[list[Chain], Cases]:
    """The chains of the cases that the recipe takes."""
    kept = cases.kept(recipe.suitable)
    if not len(kept):
        return [], kept
    batch = kept.batch(range(len(kept)))
    pairs = zip(alphas(batch["coords"]), lengths(batch).tolist(), strict=True)
    return [chain[:count].numpy().astype(np.float64) for chain, count in pairs], kept


def _made(recipe: Any, objective: Any, count: int, asked: Asked) -> list[Chain]:
    """Chains from seeds, of lengths that the recipe draws."""
    seeds, found = [derive(asked.seed, k) for k in range(count)], []
    with progress_bar("chains", count) as done:
        for first in range(0, count, asked.batch):
            drawn = recipe.drawn(
                objective, {"seed": torch.tensor(seeds[first : first + asked.batch])}
            )
            found += [_cut(c, n) for c, n in zip(drawn["coords"], drawn["length"], strict=True)]
            done(len(found))
    return found


def _cut(coords: Tensor, length: Tensor) -> Chain:
    chain = coords[: int(length)].detach().cpu().numpy().astype(np.float64)
    if not np.isfinite(chain).all():
        raise UserError("a chain holds values that are not finite; the model has diverged")
    return chain


@dataclasses.dataclass(frozen=True)
class _Scaffold:
    """A scaffold, where its motif is, what the motif was, and the chain it is from."""

    chain: Chain
    given: np.ndarray
    motif: Chain
    patient: str


def _scaffolds(
    recipe: Any, objective: Any, cases: Cases, asked: Asked
) -> dict[str, list[_Scaffold]]:
    """The motif in the middle of every chain, scaffolded: by the method first, then by what stands beside it."""
    ways = {f"K = {recipe.particles}": recipe}
    fewer = [k for k in (4, 16) if k < recipe.particles]
    ways |= {f"K = {k}": dataclasses.replace(recipe, particles=k) for k in fewer}
    ways |= {how: dataclasses.replace(recipe, conditioning=how) for how in ("replacement", "fixed")}
    found: dict[str, list[_Scaffold]] = {name: [] for name in ways}
    with progress_bar("scaffolds", len(ways) * len(cases)) as done:
        for name, way in ways.items():
            for row in range(len(cases)):
                found[name].append(_scaffold(way, objective, cases, row, asked))
                done(sum(map(len, found.values())))
    return found


def _scaffold(recipe: Any, objective: Any, cases: Cases, row: int, asked: Asked) -> _Scaffold:
    batch = {
        k: v.to(device_of(objective)) for k, v in cases.batch([row]).items() if k != "residues"
    }
    count = int(lengths(batch)[0])
    size = min(MOTIF, count // 3)
    first = (count - size) // 2
    told = dataclasses.replace(recipe, motif=f"{first + 1}-{first + size}", length=0, before=-1)
    seed = torch.tensor([derive(asked.seed, cases.ids[row], "scaffold")])
    made = told.predict(objective, {**batch, "seed": seed})
    motif = alphas(batch["coords"])[0, first : first + size].cpu().numpy().astype(np.float64)
    given = made["motif"][0, :count].cpu().numpy() > 0
    return _Scaffold(_cut(made["coords"][0], made["length"][0]), given, motif, cases.patients[row])


def _of_scaffolds(scaffolds: Sequence[_Scaffold]) -> dict[str, Metric]:
    """How near the motif is to what was asked for, and how it sits in the scaffold."""

    def each(measure: Callable[[_Scaffold], float]) -> Metric:
        return average_per_patient([measure(s) for s in scaffolds], [s.patient for s in scaffolds])

    return {
        "motif_rmsd": each(lambda s: measures.rmsd(s.chain[s.given], s.motif)),
        "joint_error": each(lambda s: _joints(s.chain, s.given)),
        "motif_clashes": each(lambda s: measures.clashes(s.chain, s.given)),
    }


def _joints(chain: Chain, given: np.ndarray) -> float:
    """Mean distance from 3.8 Angstrom of the bonds between motif and scaffold."""
    joints = given[:-1] != given[1:]
    return float(np.abs(measures.bonds(chain)[joints] - measures.BOND).mean())


def _windows(made: Sequence[Chain], scaffolds: Sequence[_Scaffold]) -> dict[str, Metric]:
    """Of chains made without motif, the window that is nearest to each."""
    nearest = [measures.best_window(made, each.motif) for each in scaffolds]
    return {"motif_rmsd": average_per_patient(nearest, [each.patient for each in scaffolds])}


def _of_chains(
    chains: Sequence[Chain], real: Sequence[Chain], training: Sequence[Chain]
) -> dict[str, Metric]:
    """Geometry, secondary structure, diversity and novelty of chains."""
    folded = [measures.secondary(chain) for chain in chains]
    hands = [hand for chain in chains if (hand := measures.left_handed(chain)) is not None]
    return {
        "bond_error": _mean([np.abs(measures.bonds(c) - measures.BOND).mean() for c in chains]),
        "bend_distance": _mean([_apart(measures.bends(c), real) for c in chains]),
        "clashes": _mean([measures.clashes(chain) for chain in chains]),
        "gyration": _mean([measures.gyration(chain) for chain in chains]),
        "helix": _mean([helix for helix, _ in folded]),
        "strand": _mean([strand for _, strand in folded]),
        "left_handed": _mean(hands) if hands else refused("there is no turn of a helix", 0),
        **_similarities(chains, training),
    }


def _mean(values: Sequence[float]) -> Metric:
    return average(torch.tensor([float(value) for value in values], dtype=torch.float64))


def _apart(bends: np.ndarray, real: Sequence[Chain]) -> float:
    """Wasserstein distance, in degrees, of a chain's bends from those of real ones."""
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(bends, np.concatenate([measures.bends(c) for c in real])))


def _similarities(chains: Sequence[Chain], training: Sequence[Chain]) -> dict[str, Metric]:
    """TM-scores: of pairs among the chains (low: diverse), and with the nearest training chain (near 1: a copy).

    Mirror images count as copies, since the method cannot tell them apart. A training chain is not compared with
    itself.
    """
    few = [chains[row] for row in spread(len(chains), COMPARED)]
    known = [training[row] for row in spread(len(training), TRAINING)]
    pairs = [(a, b) for a in range(len(few)) for b in range(a)]
    with progress_bar("TM-scores", len(pairs) + len(few)) as done:
        among = []
        for a, b in pairs:
            among.append(measures.similarity(few[a], few[b]))
            done(len(among))
        nearest = []
        for chain in few:
            both = ((hand * chain, other) for other in known for hand in (1, -1))
            nearest.append(max(measures.similarity(*pair) for pair in both))
            done(len(among) + len(nearest))
    return {"tm_pairs": _mean(among), "tm_to_training": _mean(nearest)}


def _draw(
    asked: Asked, chains: Mapping[str, Sequence[Chain]], scaffolds: Sequence[_Scaffold]
) -> None:
    """generated.png, real.png, baseline.png and scaffolds.png: traces, none picked."""
    assert asked.folder_for_pictures is not None
    for name, each in chains.items():
        write_traces(asked.folder_for_pictures / f"{name}.png", each[:SHOWN])
    shown = [each.chain for each in scaffolds], [each.given for each in scaffolds]
    write_traces(asked.folder_for_pictures / "scaffolds.png", *shown)

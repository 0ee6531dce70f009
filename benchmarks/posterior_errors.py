"""Which solvers sample the true posterior: docs/posterior.md, from a linear-Gaussian problem.

python benchmarks/posterior_errors.py
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from radiffuse.data.files import write_json, write_text
from radiffuse.diffusion.denoiser import Denoiser
from radiffuse.diffusion.sample import DDIM, DDPM, DPMSolver, Heun, Sampler, grids, prior
from radiffuse.diffusion.schedule import EDM, VE, Schedule
from radiffuse.inverse import (
    DAPS,
    DDRM,
    DPS,
    SMC,
    AnnealedLangevin,
    Constrained,
    DiffPIR,
    Measurement,
    MomentMatching,
    Probed,
    Proximal,
    PseudoInverse,
    RangeNull,
    REDDiff,
    data_consistency,
    langevin_draw,
    matched_draw,
    white_draw,
)
from radiffuse.operators.base import Matrix
from radiffuse.testing import CorrelatedDenoiser, Counted

HERE = Path(__file__).resolve().parent
DIMENSIONS, MEASURED, STD, COUNT = 8, 4, 0.1, 4000
STEPS = (20, 100, 500)
FLOOR = 0.08
USUAL, LADDER = EDM(), VE(0.01, 10.0)


def problem():
    """Prior N(m, C) with neighbours correlated, A a random 4 x 8 matrix, noise 0.1."""
    generator = torch.Generator().manual_seed(0)
    places = torch.arange(DIMENSIONS, dtype=torch.float64)
    covariance = 0.25 * torch.exp(-(((places[:, None] - places) / 2) ** 2))
    covariance = covariance + 0.01 * torch.eye(DIMENSIONS, dtype=torch.float64)
    mean = torch.linspace(-0.3, 0.4, DIMENSIONS, dtype=torch.float64)
    matrix = torch.randn(MEASURED, DIMENSIONS, generator=generator, dtype=torch.float64)
    truth = mean + torch.linalg.cholesky(covariance) @ torch.randn(
        DIMENSIONS, generator=generator, dtype=torch.float64
    )
    noise = torch.randn(MEASURED, generator=generator, dtype=torch.float64)
    y = matrix @ truth + STD * noise
    inner = matrix @ covariance @ matrix.mT + STD**2 * torch.eye(MEASURED, dtype=torch.float64)
    gain = covariance @ matrix.mT @ torch.linalg.inv(inner)
    after = mean + gain @ (y - matrix @ mean)
    return mean, covariance, matrix, y, after, covariance - gain @ matrix @ covariance


@dataclass(frozen=True)
class Solver:
    """A row of the table.

    Attributes:
        make: (denoiser, measurement) -> sampler.
        posterior: what it samples: "yes", the posterior of Gaussian data in the limit of small steps;
            otherwise the reason why not.
    """

    make: Callable[[Denoiser, Measurement], Sampler]
    posterior: str = "yes"
    schedule: Schedule = USUAL
    grid: Callable[[int], torch.Tensor] = grids.uniform


SOLVERS = {
    "`MomentMatching`, DDPM": Solver(lambda d, m: DDPM(MomentMatching(d, m))),
    "`MomentMatching`, Heun": Solver(lambda d, m: Heun(MomentMatching(d, m))),
    "`MomentMatching`, DPM-Solver++ 2M": Solver(lambda d, m: DPMSolver(MomentMatching(d, m))),
    "`DAPS`, matched draw": Solver(lambda d, m: DAPS(d, m, draw=matched_draw())),
    "`SMC`, 4000 particles": Solver(lambda d, m: SMC(d, m, particles=COUNT)),
    "`SMC`, 4000 particles, w = 0": Solver(lambda d, m: SMC(d, m, particles=COUNT, w=0.0)),
    "`AnnealedLangevin`, 20 a level": Solver(
        lambda d, m: AnnealedLangevin(d, m, count=20, rate=0.3),
        schedule=LADDER,
        grid=grids.ladder,
    ),
    "`SMC`, 16 particles": Solver(lambda d, m: SMC(d, m, particles=16), "as K grows"),
    "`SMC`, 4 particles": Solver(lambda d, m: SMC(d, m, particles=4), "as K grows"),
    "`AnnealedLangevin`, 3 a level": Solver(
        lambda d, m: AnnealedLangevin(d, m, count=3),
        "as steps a level grow",
        LADDER,
        grids.ladder,
    ),
    "`DAPS`, white draw": Solver(
        lambda d, m: DAPS(d, m, draw=white_draw()), "no: white covariance"
    ),
    "`DAPS`, Langevin draw (the paper's)": Solver(
        lambda d, m: DAPS(d, m, draw=langevin_draw()), "no: white covariance, flow's end as mean"
    ),
    "`PseudoInverse` (PiGDM), DDPM": Solver(
        lambda d, m: DDPM(PseudoInverse(d, m)), "no: white covariance inside"
    ),
    "`Probed`, DDPM": Solver(
        lambda d, m: DDPM(Probed(d, m, fwhm=float("inf"))), "no: stationary covariance"
    ),
    "`Proximal` (DDS), DDPM": Solver(lambda d, m: DDPM(Proximal(d, m)), "no: white covariance"),
    "`DiffPIR`, lambda = 1": Solver(
        lambda d, m: DiffPIR(d, m, weight=1.0), "no: penalty, not a law"
    ),
    "`DiffPIR`, lambda = 8": Solver(lambda d, m: DiffPIR(d, m), "no: penalty, not a law"),
    "`RangeNull` (DDNM), DDPM": Solver(
        lambda d, m: DDPM(RangeNull(d, m)), "no: range of A from y alone"
    ),
    "`DDRM`": Solver(lambda d, m: DDRM(d, m), "no: coefficients taken as independent"),
    "`Constrained`, clean y, DDPM": Solver(
        lambda d, m: Constrained(DDPM(d), data_consistency(m)), "no: takes y as noise-free"
    ),
    "`Constrained`, noised y, DDPM": Solver(
        lambda d, m: Constrained(DDPM(d), data_consistency(m, noised=True)),
        "no: takes y as noise-free",
    ),
    "`DPS`, zeta = 0.1": Solver(lambda d, m: DPS(d, m, scale=0.1), "no: step size by hand"),
    "`DPS`, zeta = 0.5": Solver(lambda d, m: DPS(d, m, scale=0.5), "no: step size by hand"),
    "`REDDiff`": Solver(lambda d, m: REDDiff(d, m), "no: one estimate, no samples"),
    "(the prior alone, DDIM)": Solver(lambda d, m: DDIM(d), "no: ignores y"),
}


def measure(solver, steps):
    mean, covariance, matrix, y, after, spread = problem()
    denoiser = Counted(CorrelatedDenoiser(solver.schedule, mean, covariance))
    operator = Matrix(matrix, (1, DIMENSIONS))
    sampler = solver.make(denoiser, Measurement(y.expand(COUNT, -1), operator, STD))
    torch.manual_seed(0)
    like = torch.zeros(COUNT, 1, DIMENSIONS, dtype=torch.float64)
    x = sampler(prior(solver.schedule, like), solver.grid(steps)).flatten(1)
    scale = float(spread.trace() ** 0.5)
    return {
        "steps": steps,
        "calls": denoiser.calls,
        "mean_error": float((x.mean(0) - after).norm()) / scale,
        "covariance_error": float((x.mT.cov() - spread).norm() / spread.norm()),
    }


def table(results):
    """The page, from what `main` measured."""
    lines = [
        "# Which solvers sample the true posterior",
        "",
        f"A linear-Gaussian problem whose posterior is known: {MEASURED} noisy measurements (std {STD})",
        f"of {DIMENSIONS} correlated unknowns, exact prior denoiser, {COUNT} samples, seed 0. Cells hold two",
        "errors: of the mean, in posterior standard deviations, and of the covariance, in its Frobenius",
        "norm; about 0.02 and 0.03 are the Monte Carlo floor. Calls are network calls (of a batch), at 500 steps;",
        "solvers that go through the Jacobian add backward passes.",
        "Generated by `python benchmarks/posterior_errors.py`.",
        "",
        "| solver | samples the posterior | "
        + " | ".join(f"{s} steps" for s in STEPS)
        + " | calls |",
        "|---|---|" + "---|" * len(STEPS) + "---|",
    ]
    for name, cells in results.items():
        claim = SOLVERS[name].posterior
        claim = f"**{claim}**" if claim == "yes" else claim
        shown = [f"{c['mean_error']:.3f} / {c['covariance_error']:.3f}" for c in cells]
        lines.append(f"| {name} | {claim} | " + " | ".join(shown) + f" | {cells[-1]['calls']} |")
    lines += [
        "",
        "*Yes* means that the error of Gaussian data goes to the floor as steps (and, for `SMC`, particles;",
        "for `AnnealedLangevin`, steps a level) grow; the benchmark fails if one of them ends above "
        f"{FLOOR}.",
        "`MomentMatching` and `DAPS` with the matched draw use the covariance that the denoiser's Jacobian",
        "implies; for data that are not Gaussian this is the best Gaussian guess, and only `SMC` and",
        "`AnnealedLangevin` still converge. Every *no* samples something else: its error may be small",
        "at one number of steps, but nothing says that it vanishes. Some of them improve with more steps on this",
        "problem, `DAPS` with the white draw the most, because short steps forgive a wrong covariance.",
        "Not in the table, as they serve any row of it: `warm_start`, `low_pass`, `Slicewise`, `ThroughPlane`.",
        "Nor is `Stein`, which takes the covariance of `Probed` from the chain's own noise: no posterior sampler,",
        "and made for a handful of long steps; what it does there is in measured.md (seconds a draw).",
        "A step of `DPS` scales with the length of the chain, so zeta has to be tuned anew for every grid.",
        "",
    ]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=HERE / "results" / "posterior_errors.json")
    arguments = parser.parse_args()
    results = {}
    for name, solver in SOLVERS.items():
        results[name] = [measure(solver, s) for s in STEPS]
        last = results[name][-1]
        worst = max(last["mean_error"], last["covariance_error"])
        if solver.posterior == "yes" and worst > FLOOR:
            raise SystemExit(f"{name} claims the posterior and misses it: {worst:.3f} > {FLOOR}")
        print(f"{name}: {last}", flush=True)
    write_json(arguments.json, {"solvers": results})
    write_text(HERE.parent / "docs" / "posterior.md", table(results))


if __name__ == "__main__":
    main()

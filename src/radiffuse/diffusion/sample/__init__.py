"""Samplers: one loop (`base`), grids of times (`grids`), and one step each."""

from . import grids
from .base import Sampler, Then, last, prior
from .jumps import Consistent, Jumps, Renoised
from .langevin import Langevin, annealed, signal_to_noise
from .leap import First, GaussianFlow
from .learned import FewCalls, Learned, WithSolver
from .multistep import DPMSolver, DPMSolverSDE, UniPC
from .ode import FlowODE, flow
from .onestep import DDIM, DDPM, EulerMaruyama, Heun, ReverseDiffusion

__all__ = [
    "DDIM",
    "DDPM",
    "Consistent",
    "DPMSolver",
    "DPMSolverSDE",
    "EulerMaruyama",
    "FewCalls",
    "First",
    "FlowODE",
    "GaussianFlow",
    "Heun",
    "Jumps",
    "Langevin",
    "Learned",
    "Renoised",
    "ReverseDiffusion",
    "Sampler",
    "Then",
    "UniPC",
    "WithSolver",
    "annealed",
    "flow",
    "grids",
    "last",
    "prior",
    "signal_to_noise",
]

"""Samplers: one loop (`base`), grids of times (`grids`), and one step each."""

from . import grids
from .base import Sampler, Then, last, prior
from .jumps import Jumps, Renoised
from .langevin import Langevin, annealed, signal_to_noise
from .leap import First, GaussianFlow
from .multistep import DPMSolver, DPMSolverSDE, UniPC
from .ode import FlowODE, flow
from .onestep import DDIM, DDPM, EulerMaruyama, Heun, ReverseDiffusion

__all__ = [
    "DDIM",
    "DDPM",
    "DPMSolver",
    "DPMSolverSDE",
    "EulerMaruyama",
    "First",
    "FlowODE",
    "GaussianFlow",
    "Heun",
    "Jumps",
    "Langevin",
    "Renoised",
    "ReverseDiffusion",
    "Sampler",
    "Then",
    "UniPC",
    "annealed",
    "flow",
    "grids",
    "last",
    "prior",
    "signal_to_noise",
]

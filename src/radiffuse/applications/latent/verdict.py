"""What is wrong with a latent diffusion, in words, and the setting to change."""

from collections.abc import Mapping
from typing import Any

__all__ = ["verdict"]

UNIT = (0.8, 1.25)
"""Deviations of codes that noise schedules are made for."""
OWN_NOISE, USED, ALIKE, EDGES, EARLY, SHARP, BEHIND = 0.5, 0.1, 0.7, (0.02, 0.98), 0.05, 20.0, 1.1


def verdict(found: Mapping[str, Any]) -> list[str]:
    """One line for every fault, worst first; one that says so where none is found.

    Args:
        found: as `diagnosis.diagnosed` makes it.
    """
    faults = (_scale, _collapsed, _unused, _poor, _schedule, _behind, _sharp)
    lines = [line for fault in faults if (line := fault(found))]
    return lines or ["nothing stands out: codes, noise levels and decoder are as they should be"]


def _scale(found: Mapping[str, Any]) -> str:
    spread = found["overall"]
    if UNIT[0] <= spread <= UNIT[1]:
        return ""
    better = ", ".join(f"{scale / spread:.4g}" for scale in found["scale"])
    return (
        f"scale: codes reach the network with a deviation of {spread:.3g}, and noise schedules are made for 1; "
        f"set latent_scale to {better}, or --standardised channels, and train the second stage anew"
    )


def _collapsed(found: Mapping[str, Any]) -> str:
    share = found["own_noise"]
    if share <= OWN_NOISE:
        return ""
    return (
        f"collapsed codes: {share:.0%} of their variance is the noise of their own laws, so they say little of "
        "their images; the divergence weighs too much: lower --kl (a hundredth) and train both stages anew"
    )


def _unused(found: Mapping[str, Any]) -> str:
    used = found["codes"]["used"]
    if used >= USED:
        return ""
    return (
        f"codebook: {used:.1%} of its entries are used; lower --codebook-decay or take fewer --codes, and train "
        "both stages anew"
    )


def _poor(found: Mapping[str, Any]) -> str:
    alike = found["codes"]["ms_ssim"].get("mean")
    if alike is None or alike >= ALIKE:
        return ""
    return (
        f"auto-encoder: held-out images come back with an MS-SSIM of {alike:.2g}, and no diffusion of its codes makes "
        "better ones; train the first stage longer (--first.minutes), or halve its resolution less often"
    )


def _schedule(found: Mapping[str, Any]) -> str:
    """The schedule puts its levels where there is nothing to learn, or starts from what is not noise."""
    errors = [level["gaussian"] for level in found["levels"]]
    easy = sum(error < EDGES[0] for error in errors) / len(errors)
    blind = sum(error > EDGES[1] for error in errors) / len(errors)
    size = " x ".join(map(str, found["codes"]["code"][1:]))
    if found["start"] > EARLY or easy > 0.5:
        return (
            f"schedule: too little noise for codes of {size}: a Gaussian still knows {found['start']:.0%} of their "
            f"variance where sampling starts from pure noise, and {easy:.0%} of the levels of training teach "
            "nothing; more noise at the end (a larger beta_last, sigma_max or shift)"
        )
    if blind > 0.5:
        return (
            f"schedule: too much noise for codes of {size}: at {blind:.0%} of the levels of training nothing of "
            "them is left; less noise (a smaller beta_last, sigma_max or shift)"
        )
    return ""


def _behind(found: Mapping[str, Any]) -> str:
    """The network has learned less than a Gaussian knows."""
    open_levels = [v for v in found["levels"] if EDGES[0] <= v["gaussian"] <= EDGES[1]]
    behind = [v for v in open_levels if v["network"] > BEHIND * v["gaussian"]]
    if not open_levels or 2 * len(behind) <= len(open_levels):
        return ""
    return (
        f"network: at {len(behind)} of {len(open_levels)} noise levels its error is above that of a Gaussian of the "
        "same spectrum; train the second stage longer (--train.minutes, --resume), or --filtered"
    )


def _sharp(found: Mapping[str, Any]) -> str:
    """Images fall apart with a little noise on their codes."""
    at = next((v["psnr"] for v in found["decoder"] if v["noise"] == 0.1), None)
    if at is None or at >= SHARP:
        return ""
    return (
        f"decoder: noise of a tenth of the codes' deviation leaves images of {at:.3g} dB, so small errors of the "
        "diffusion are seen; raise --kl (ten times) and train both stages anew"
    )

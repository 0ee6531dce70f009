"""One contestant of `peers.py`, in its own process: times a training step, or trains and samples.

Runs in the environment of the contestant (the peers have their own) and prints one JSON line. All
train with the same plain loop: AdamW, the same batch, the same precision, the same average of weights.

    python peers_worker.py step radiffuse --precision bf16
    python peers_worker.py fid monai --data DATA.npz --marks 10 20 --out FOLDER
    python peers_worker.py default monai --weights FOLDER/20.safetensors --out FOLDER
"""

import argparse
import copy
import json
import resource
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

DEFAULT_STEPS = 1000


class Contestant:
    """A network, its loss on a batch in [-1, 1], and its sampler: fast, or the library's default.

    `memory` is the order of memory with which it is fastest on a CPU.
    """

    memory = torch.contiguous_format

    def loss(self, x):
        raise NotImplementedError

    def sample(self, network, cases, steps, fast=True):
        raise NotImplementedError


class Radiffuse(Contestant):
    def __init__(self, size, data):
        from radiffuse.applications.generation.ddpm import DDPM
        from radiffuse.data.dataset import open_cases

        cases = open_cases(str(data or f"brains:count=16,size={size}"))
        self.recipe = DDPM.small().fitted(cases.facts())
        self.objective, self.drawing = self.recipe.objective(), self.recipe.objective()
        self.network = self.objective.players["network"]

    def loss(self, x):
        ((_, loss),) = self.objective.losses({"image": x})
        return loss

    def sample(self, network, cases, steps, fast=True):
        import dataclasses

        self.drawing.players["network"].eval().load_state_dict(network.state_dict())
        recipe = dataclasses.replace(self.recipe, steps=steps)
        return recipe.predict(self.drawing, {"seed": torch.tensor(cases)})["image"]


class Noise(Contestant):
    """What MONAI and diffusers share: noise prediction on 1000 linear betas."""

    steps = DEFAULT_STEPS
    memory = torch.channels_last

    def loss(self, x):
        z = torch.randn_like(x)
        t = torch.randint(0, self.steps, (len(x),))
        return (self.call(self.network, self.scheduler.add_noise(x, z, t), t) - z).square().mean()


class Monai(Noise):
    def __init__(self, size, data):
        from monai.networks.nets import DiffusionModelUNet
        from monai.networks.schedulers import DDIMScheduler, DDPMScheduler

        self.network = DiffusionModelUNet(
            spatial_dims=2,
            in_channels=1,
            out_channels=1,
            channels=(60, 120, 180),
            attention_levels=(False, False, True),
            num_res_blocks=1,
            num_head_channels=60,
            norm_num_groups=20,
        )
        self.scheduler = DDPMScheduler(num_train_timesteps=self.steps, clip_sample=True)
        self.fast = DDIMScheduler(num_train_timesteps=self.steps, clip_sample=True)
        self.size = size

    def call(self, network, x, t):
        return network(x, t)

    def sample(self, network, cases, steps, fast=True):
        scheduler = self.fast if fast else self.scheduler
        scheduler.set_timesteps(steps)
        x = torch.randn(len(cases), 1, self.size, self.size)
        for t in scheduler.timesteps:
            out = self.call(network, x, torch.full((len(cases),), int(t)))
            x, _ = scheduler.step(out.float(), int(t), x)
        return x


class Diffusers(Noise):
    def __init__(self, size, data):
        from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel

        self.network = UNet2DModel(
            sample_size=size,
            in_channels=1,
            out_channels=1,
            layers_per_block=1,
            block_out_channels=(60, 120, 180),
            down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
            norm_num_groups=20,
            attention_head_dim=60,
        )
        self.scheduler = DDPMScheduler(num_train_timesteps=self.steps)
        # without its thresholding half of the images of so short trainings are black or white
        self.fast = DPMSolverMultistepScheduler(
            num_train_timesteps=self.steps, thresholding=True, use_karras_sigmas=True
        )
        self.size = size

    def call(self, network, x, t):
        return network(x, t).sample

    def sample(self, network, cases, steps, fast=True):
        scheduler = self.fast if fast else self.scheduler
        scheduler.set_timesteps(steps)
        x = torch.randn(len(cases), 1, self.size, self.size)
        for t in scheduler.timesteps:
            x = scheduler.step(self.call(network, x, t).float(), t, x).prev_sample
        return x


CONTESTANTS = {"radiffuse": Radiffuse, "monai": Monai, "diffusers": Diffusers}


def trainer(contestant, precision, rate=1e-3):
    optimiser = torch.optim.AdamW(contestant.network.parameters(), rate, fused=True)

    def step(x):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = contestant.loss(x)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(contestant.network.parameters(), 1.0)
        optimiser.step()
        return loss

    return step, optimiser


def sampled(contestant, network, count, steps, precision, fast=True):
    """Images in [0, 255] of cases 0, 1, ..., and the seconds each took."""
    drawn, began = [], time.perf_counter()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        for first in range(0, count, 50):
            cases = range(first, min(first + 50, count))
            drawn.append(contestant.sample(network.eval(), list(cases), steps, fast))
    seconds = (time.perf_counter() - began) / count
    pixels = (torch.cat(drawn).float().clamp(-1, 1) + 1) * 127.5
    return pixels.round().byte().numpy()[:, 0], seconds


def images(path):
    with np.load(path, allow_pickle=False) as data:
        chosen = data["image"][data["split"] == "train"]
    return torch.from_numpy(chosen)[:, None]


def time_step(contestant, arguments):
    """Seconds of a training step, of an image sampled with 10 calls, and peak memory."""
    step, _ = trainer(contestant, arguments.precision)
    x = torch.randn(arguments.batch, 1, arguments.size, arguments.size).clamp(-1, 1)
    for _ in range(2):
        step(x)
    seconds = []
    for _ in range(arguments.steps):
        began = time.perf_counter()
        step(x)
        seconds.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sampled(contestant, contestant.network, 8, 2, arguments.precision)
    _, per_image = sampled(contestant, contestant.network, 8, 10, arguments.precision)
    return {
        "seconds_per_step": sorted(seconds)[len(seconds) // 2],
        "seconds_per_image_10_calls": per_image,
        "peak_memory_mb": peak,
    }


def train_and_sample(contestant, arguments):
    """Train for some minutes; at marks, samples of the averaged weights go to OUT/MINUTES.npz."""
    data = images(arguments.data)
    step, optimiser = trainer(contestant, arguments.precision)
    average = copy.deepcopy(contestant.network)
    marks = [float(mark) for mark in arguments.marks]
    torch.manual_seed(0)
    done, spent, marked = 0, 0.0, []
    while marks:
        began = time.perf_counter()
        done += 1
        optimiser.param_groups[0]["lr"] = 1e-3 * min(1, done / 200)
        x = data[torch.randint(0, len(data), (arguments.batch,))].float() / 127.5 - 1
        step(x)
        keep = min(0.9995, (1 + done) / (10 + done))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(average.parameters()), list(contestant.network.parameters()), 1 - keep
            )
        spent += time.perf_counter() - began
        if spent < 60 * marks[0]:
            continue
        minutes = marks.pop(0)
        drawn, seconds = sampled(
            contestant, average, arguments.count, arguments.calls, arguments.precision
        )
        np.savez_compressed(arguments.out / f"{minutes:g}.npz", image=drawn)
        weights = {key: value.contiguous() for key, value in average.state_dict().items()}
        save_file(weights, arguments.out / f"{minutes:g}.safetensors")
        marked.append({"minutes": minutes, "steps": done, "seconds_per_image": seconds})
    return {"marks": marked, "calls": arguments.calls}


def draw(contestant, arguments):
    """Samples of stored weights MINUTES.safetensors with the fast sampler, to OUT/MINUTES.npz."""
    contestant.network.load_state_dict(load_file(arguments.weights))
    drawn, seconds = sampled(
        contestant, contestant.network, arguments.count, arguments.calls, arguments.precision
    )
    np.savez_compressed(arguments.out / f"{arguments.weights.stem}.npz", image=drawn)
    return {"seconds_per_image": seconds}


def by_default(contestant, arguments):
    """Samples of stored weights with the library's own sampler at 1000 steps, to OUT/default.npz."""
    contestant.network.load_state_dict(load_file(arguments.weights))
    drawn, seconds = sampled(
        contestant, contestant.network, arguments.count, DEFAULT_STEPS, arguments.precision, False
    )
    np.savez_compressed(arguments.out / "default.npz", image=drawn)
    return {"calls": DEFAULT_STEPS, "count": arguments.count, "seconds_per_image": seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=("step", "fid", "draw", "default"))
    parser.add_argument("contestant", choices=CONTESTANTS)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--marks", nargs="+", default=["5", "10", "15", "30"])
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    contestant = CONTESTANTS[arguments.contestant](arguments.size, arguments.data)
    contestant.network.to(memory_format=contestant.memory)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
    tasks = {"step": time_step, "fid": train_and_sample, "draw": draw, "default": by_default}
    task = tasks[arguments.task]
    parameters = sum(p.numel() for p in contestant.network.parameters())
    record = {"contestant": arguments.contestant, "parameters": parameters}
    print(json.dumps({**record, "precision": arguments.precision, **task(contestant, arguments)}))


if __name__ == "__main__":
    main()

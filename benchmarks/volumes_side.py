"""One contestant of `volumes.py` on volumes of one size, alone in a process: prints one JSON object.

Runs in the environment of the contestant. Both do the same: a training step (loss, gradients, AdamW) of a network of
voxels and of an auto-encoder, one network call on a whole volume, the same by tiles of 48, and a volume of a latent
diffusion (ten steps of DDIM, decoded).

    python volumes_side.py radiffuse 64
"""

import argparse
import json

import torch
from peak import Peak

STEPS, TILE, OVERLAP = 10, 48, 0.25


class Radiffuse:
    def __init__(self):
        from dataclasses import replace

        from radiffuse.applications.generation.brain_ldm import BrainLDM
        from radiffuse.nn import UNet

        self.network = UNet(3, 1, 24, (1, 2, 2), 1, (), patch=2)
        self.tiled = UNet(3, 1, 24, (1, 2, 2), 1, (), patch=2)
        chain = {"sampler": "ddim", "grid": "uniform", "steps": STEPS}
        self.recipe = replace(BrainLDM.small(), channels=1, **chain)
        self.coder = replace(self.recipe, size=(8,) * 3).coder()
        self.objective = replace(self.recipe, size=(8,) * 3).objective()
        self.codes = self.objective.network

    def call(self, x, t):
        return self.network(x, t.float() / 1000)

    def tiles(self, x, t):
        from radiffuse.diffusion.tiling import by_tiles

        if "forward" not in vars(self.tiled):
            by_tiles(self.tiled, (TILE,) * 3, OVERLAP)
        return self.tiled(x, t.float() / 1000)

    def coded(self, x):
        made, divergence = self.coder(x)
        return (made - x).abs().mean() + 1e-6 * divergence

    def drawn(self, side):
        from dataclasses import replace

        recipe = replace(self.recipe, size=(side,) * 3)
        return recipe.predict(self.objective, {"seed": torch.arange(1)})["image"]


class Monai:
    def __init__(self):
        from monai.networks.nets import AutoencoderKL, DiffusionModelUNet
        from monai.networks.schedulers import DDIMScheduler

        voxels = {"spatial_dims": 3, "num_res_blocks": 1}
        self.network = DiffusionModelUNet(
            in_channels=1, out_channels=1, channels=(16, 32, 56), attention_levels=(False,) * 3,
            num_head_channels=8, norm_num_groups=8, **voxels,
        )  # fmt: skip
        self.codes = DiffusionModelUNet(
            in_channels=3, out_channels=3, channels=(48, 88), attention_levels=(False, True),
            num_head_channels=88, norm_num_groups=8, **voxels,
        )  # fmt: skip
        self.coder = AutoencoderKL(
            spatial_dims=3, in_channels=1, out_channels=1, channels=(8, 16, 32), latent_channels=3,
            num_res_blocks=(1,) * 3, attention_levels=(False,) * 3, norm_num_groups=4,
            with_encoder_nonlocal_attn=False, with_decoder_nonlocal_attn=False,
        )  # fmt: skip
        self.scheduler = DDIMScheduler(num_train_timesteps=1000, clip_sample=False)

    def call(self, x, t):
        return self.network(x, t)

    def tiles(self, x, t):
        from monai.inferers import sliding_window_inference

        return sliding_window_inference(
            x, (TILE,) * 3, 1, lambda cut: self.network(cut, t), OVERLAP, mode="gaussian"
        )

    def coded(self, x):
        made, mean, deviation = self.coder(x)
        divergence = mean.square() + deviation.square() - 2 * deviation.log() - 1
        return (made - x).abs().mean() + 1e-6 * 0.5 * divergence.sum()

    def drawn(self, side):
        self.scheduler.set_timesteps(STEPS)
        z = torch.randn(1, 3, *[side // 4] * 3)
        for t in self.scheduler.timesteps:
            z, _ = self.scheduler.step(self.codes(z, torch.full((1,), int(t))), int(t), z)
        return self.coder.decode_stage_2_outputs(z)


def trained(network, loss):
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)

    def step(x):
        optimizer.zero_grad(set_to_none=True)
        loss(x).backward()
        optimizer.step()

    return step


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("who", choices=("radiffuse", "monai"))
    parser.add_argument("side", type=int)
    parser.add_argument("--parts", nargs="+", default=["step", "call", "tiles", "coder", "drawn"])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    made = {"radiffuse": Radiffuse, "monai": Monai}[asked.who]()
    clock = torch.full((1,), 500)
    without = torch.no_grad()
    work = {
        "step": trained(made.network, lambda x: (made.call(x, clock) - x).square().mean()),
        "call": without(lambda x: made.call(x, clock)),
        "tiles": without(lambda x: made.tiles(x, clock)),
        "coder": trained(made.coder, made.coded),
        "drawn": without(lambda x: made.drawn(x.shape[-1])),
    }
    count = {
        name: sum(p.numel() for p in getattr(made, name).parameters())
        for name in ("network", "coder", "codes")
    }
    found = {"side": asked.side, "parameters": count}
    for part in asked.parts:
        work[part](torch.rand(1, 1, 16, 16, 16))
        x = torch.rand(1, 1, *[asked.side] * 3)
        with Peak() as peak:
            work[part](x)
        found[part] = {"seconds": peak.cpu, "bytes": peak.bytes}
    print(json.dumps(found))


if __name__ == "__main__":
    main()

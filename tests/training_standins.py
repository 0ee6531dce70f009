"""Small objectives and cases for the tests of training; also run as a program in processes."""

import json
import os
import signal
import sys
import threading
from pathlib import Path

import torch
from torch import nn


class Table:
    """Cases in memory: x (4 numbers) and y = sum of x."""

    def __init__(self, cases=32, width=4):
        self.ids = tuple(f"case-{i}" for i in range(cases))
        self.x = torch.randn(cases, width, generator=torch.Generator().manual_seed(1))
        self.y = self.x.sum(1, keepdim=True)
        self.fingerprint = "table"

    def __len__(self):
        return len(self.x)

    def batch(self, indices):
        return {"x": self.x[indices], "y": self.y[indices]}


class Regression:
    """One player; noise on its input, so that the global generator matters."""

    def __init__(self, hidden=8, factor=1.0):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(4, hidden), nn.SiLU(), nn.Linear(hidden, 1))
        self.players = {"net": network}
        self.factor = factor

    def losses(self, batch):
        x = batch["x"] + 0.1 * torch.randn_like(batch["x"])
        yield "net", self.factor * (self.players["net"](x) - batch["y"]).square().mean()


class Duel:
    """Two players, with what makes them hard to spread: a penalty on a gradient, shared noise."""

    def __init__(self):
        torch.manual_seed(0)
        sizes = {"critic": 1, "generator": 4}
        self.players = {
            name: nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, out))
            for name, out in sizes.items()
        }

    def losses(self, batch):
        critic, generator = self.players["critic"], self.players["generator"]
        real = batch["x"].detach().requires_grad_()
        fake = generator(torch.randn_like(real))
        score = critic(real)
        (slope,) = torch.autograd.grad(score.sum(), real, create_graph=True)
        lost = nn.functional.softplus(-score) + nn.functional.softplus(critic(fake.detach()))
        yield "critic", lost.mean() + slope.square().sum(1).mean()
        yield "generator", nn.functional.softplus(-critic(fake + 0.1 * torch.randn(()))).mean()


def main(out, options, *, resume, kill_after=None, objective="Regression"):
    """Train in this process; SIGKILL comes after (batches, seconds) `kill_after`."""
    from radiffuse.training.loop import TrainOptions, train

    class Killed(Table):
        def batch(self, indices):
            self.read = getattr(self, "read", 0) + 1
            if kill_after is not None and self.read == kill_after[0]:
                timer = threading.Timer(kill_after[1], os.kill, (os.getpid(), signal.SIGKILL))
                timer.daemon = True
                timer.start()
            return super().batch(indices)

    train(globals()[objective](), Killed(), TrainOptions(**options), Path(out), resume=resume)


def steps_apart(objective, batch, count):
    """`count` Adam steps of every player, each checked to be moved by its own loss alone; the losses."""
    optimisers = {k: torch.optim.Adam(p.parameters(), 5e-3) for k, p in objective.players.items()}
    found = []
    torch.manual_seed(0)
    for _ in range(count):
        row = {}
        for name, loss in objective.losses(batch):
            for player in objective.players.values():
                player.zero_grad()
            loss.backward()
            for other, player in objective.players.items():
                still = all(p.grad is None or not p.grad.any() for p in player.parameters())
                assert other == name or still, f"the loss of {name} moves {other}"
            optimisers[name].step()
            row[name] = float(loss.detach())
        found.append(row)
    return found


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    rank, attempt = os.environ.get("RANK"), os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if rank == "0" or attempt != "0":  # in several processes one is killed, and only once
        arguments[0].pop("kill_after", None)
    for training in arguments:
        main(**training)
    from radiffuse.training import processes

    processes.leave()

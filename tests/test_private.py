"""Differentially private training: what a step is, what is spent, and what a run folder must not hold."""

import dataclasses
import json
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from radiffuse.applications.generation.ncsn import NCSN
from radiffuse.applications.generation.sde import SDE
from radiffuse.cli import main
from radiffuse.commands.private import public
from radiffuse.data.facts import Facts
from radiffuse.errors import UsageError, UserError
from radiffuse.report.private import said
from radiffuse.training.budget import Plan, planned
from radiffuse.training.loop import Trainer, train
from radiffuse.training.options import TrainOptions
from radiffuse.training.private import Ledger, Private, people, refuse_objective

pytest.importorskip("opacus")

UNITS = 6


class Rows:
    """Cases with known numbers; remembers which were read."""

    def __init__(self, count=UNITS):
        generator = torch.Generator().manual_seed(1)
        self.x, self.y = (torch.randn(count, 3, generator=generator) for _ in range(2))
        self.read = []

    def __len__(self):
        return len(self.x)

    def batch(self, indices):
        self.read += list(indices)
        return {"x": self.x[indices], "y": self.y[indices]}


class Regression:
    """Least squares, without any randomness, so that a gradient can be computed by hand."""

    def __init__(self):
        torch.manual_seed(0)
        self.players = {"network": nn.Linear(3, 3)}
        self.sizes = []

    def losses(self, batch):
        self.sizes.append(len(batch["x"]))
        out = self.players["network"](batch["x"])
        yield "network", (out - batch["y"]).square().mean()


class Silent:
    """A network whose loss says nothing of its weights."""

    def __init__(self):
        self.players = {"network": nn.Linear(100, 200)}

    def losses(self, batch):
        yield "network", 0 * self.players["network"].weight.sum()


def plan(**more):
    given = {
        "epsilon": 3.0,
        "delta": 1e-5,
        "unit": "image",
        "units": UNITS,
        "batch": UNITS,
        "steps": 4,
        "clip": 1e9,
        "noise_multiplier": 0.0,
        "draws": 1,
        "accountant": "rdp",
    }
    return Plan(**{**given, **more})


def private(objective, the_plan, out, cases=None, members=None, secret=0, **options):
    cases = cases or Rows()
    options = TrainOptions(batch=the_plan.batch, warmup=0, clip=0, steps=the_plan.steps, **options)
    return Private(
        *(objective, cases, options, out, {}, None),
        ledger=Ledger(the_plan),
        members=members or [[index] for index in range(len(cases))],
        secret=secret,
    )


def noised(trainer):
    """The gradients that a step leaves in the parameters."""
    parts, error = trainer._fetch()
    assert error is None
    trainer.noised_gradient([(part, iter(trainer.objective.losses(part.batch))) for part in parts])
    return [parameter.grad.clone() for parameter in trainer.player.parameters]


def one_by_one(objective, cases):
    """Each case's gradient, flat, by a loop over cases."""
    network = objective.players["network"]
    for index in range(len(cases)):
        _, loss = next(objective.losses(cases.batch([index])))
        yield torch.cat([g.flatten() for g in torch.autograd.grad(loss, network.parameters())])


def flat(grads):
    return torch.cat([grad.flatten() for grad in grads])


# ------------------------------------------------------------------------------------------ a step
def test_without_noise_and_shortening_a_private_step_is_the_plain_one(tmp_path):
    gradient = sum(one_by_one(Regression(), Rows())) / UNITS  # Adam would hide its length
    torch.testing.assert_close(flat(noised(private(Regression(), plan(), tmp_path))), gradient)
    plain, hidden = Regression(), Regression()
    options = TrainOptions(batch=UNITS, warmup=0, clip=0, steps=1)
    usual = Trainer(plain, Rows(), options, tmp_path, {}, None)
    trainer = private(hidden, plan(), tmp_path)
    for each in (usual, trainer):
        parts, _ = each._fetch()
        each.take(parts)
        each.batches.close()
    for ours, theirs in zip(
        hidden.players["network"].parameters(), plain.players["network"].parameters(), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_each_gradient_is_shortened_before_the_sum(tmp_path):
    objective, cases = Regression(), Rows()
    lengths = [float(g.norm()) for g in one_by_one(objective, cases)]
    clip = sorted(lengths)[UNITS // 2]  # some are longer and some are not
    expected = (
        sum(g * min(1.0, clip / float(g.norm())) for g in one_by_one(objective, cases)) / UNITS
    )
    found = flat(noised(private(objective, plan(clip=clip), tmp_path, cases)))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_draws_are_averaged_before_a_gradient_is_shortened(tmp_path):
    class Signed(Silent):
        def losses(self, batch):
            row = torch.tensor([3.0, -1.0]).repeat(len(batch["x"]) // 2)
            yield "network", (row * self.players["network"].weight[0, 0]).mean()

    trainer = private(Signed(), plan(clip=2.0, draws=4), tmp_path)
    assert float(noised(trainer)[0][0, 0]) == pytest.approx(1.0, rel=1e-4)  # not (2 - 1) / 2


def test_a_patient_gives_one_gradient_of_all_its_draws(tmp_path):
    objective = Regression()
    noised(private(objective, plan(draws=5), tmp_path))
    assert objective.sizes == [5] * UNITS


@pytest.mark.parametrize("rate", [1.0, 1e-9], ids=["all patients", "none drawn"])
def test_noise_has_the_size_that_is_accounted_for(tmp_path, rate):
    cases = Rows(50)
    batch = 50 if rate == 1 else 1
    the_plan = plan(units=50 if rate == 1 else 10**9, batch=batch, clip=0.7, noise_multiplier=1.3)
    trainer = private(Silent(), the_plan, tmp_path, cases)
    first, second = flat(noised(trainer)), flat(noised(trainer))
    wanted = 1.3 * 0.7 / batch
    assert float(first.std()) == pytest.approx(wanted, rel=0.03)  # 20,200 numbers: 3 % are 6 sigma
    assert abs(float(first.mean())) < 0.05 * wanted
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.05


def test_noise_is_a_secret_that_the_seed_of_the_training_does_not_tell(tmp_path):
    the_plan = plan(noise_multiplier=1.0, clip=1.0)
    one, other = (
        flat(noised(private(Silent(), the_plan, tmp_path, secret=None, seed=7))) for _ in range(2)
    )
    assert not torch.equal(one, other)


def test_patients_are_drawn_and_one_image_of_each(tmp_path):
    cases, members = Rows(30), [[3 * k, 3 * k + 1, 3 * k + 2] for k in range(10)]
    trainer = private(Regression(), plan(units=10, batch=4), tmp_path, cases, members)
    counts = []
    for _ in range(300):
        cases.read = []
        trainer._fetch()
        assert len({index // 3 for index in cases.read}) == len(cases.read)
        counts.append(list(cases.read))
    mean = np.mean([len(each) for each in counts])
    assert mean == pytest.approx(4, abs=0.4)  # 4 of 10; deviation of the mean 0.09
    assert np.var([len(each) for each in counts]) == pytest.approx(2.4, abs=0.8)  # binomial
    assert {index % 3 for each in counts for index in each} == {0, 1, 2}


def test_who_is_a_patient():
    assert people(["a", "b", "c"], ["p", "q", "p"]) == ("patient", [[0, 2], [1]])
    assert people(["a", "b"], ["a", "b"]) == ("image", [[0], [1]])


# ------------------------------------------------------------------------------------------ the budget
def test_epsilon_is_what_opacus_says():
    from opacus.accountants import RDPAccountant

    the_plan = plan(units=1000, batch=50, steps=40, noise_multiplier=1.1)
    accountant = RDPAccountant()
    for _ in range(17):
        accountant.step(noise_multiplier=1.1, sample_rate=0.05)
    assert the_plan.spent(17) == pytest.approx(accountant.get_epsilon(delta=1e-5))
    assert the_plan.spent(0) == 0 and plan().spent(1) == float("inf")


@pytest.mark.parametrize("epsilon", [1.0, 4.0])
def test_the_noise_is_found_from_the_budget(epsilon):
    options = TrainOptions(private=True, epsilon=epsilon, steps=50, batch=100)
    found = planned(options, "patient", 2000, 1000)
    assert 0.97 * epsilon < found.spent(50) <= epsilon
    assert found.spent(51) > found.spent(50)


def test_what_cannot_be_reached_says_what_would(monkeypatch):
    monkeypatch.setattr("radiffuse.training.budget.ACCOUNTANT", "rdp")
    options = TrainOptions(private=True, epsilon=1.0, steps=50, batch=20)
    with pytest.raises(UsageError, match="cannot be reached") as caught:
        planned(options, "patient", 10_000, 1_000_000)
    words = str(caught.value).split()
    batch = int(words[words.index("--train.batch") + 1])
    enough = planned(dataclasses.replace(options, batch=batch), "patient", 10_000, 1_000_000)
    assert enough.batch == batch
    with pytest.raises(UsageError, match="cannot be reached"):
        planned(dataclasses.replace(options, batch=batch // 2), "patient", 10_000, 1_000_000)


@pytest.mark.parametrize(
    "more, units, said",
    [
        ({"epsilon": None}, 100, "--train.epsilon 10"),
        ({"steps": None, "minutes": 5.0}, 100, "--train.steps N"),
        ({"batch": 200}, 100, "take 100 or less"),
        ({"delta": 0.02}, 100, "less than 0.01"),
    ],
)
def test_a_budget_that_means_nothing_is_refused(more, units, said):
    options = TrainOptions(**{"private": True, "epsilon": 5.0, "steps": 10, "batch": 10, **more})
    with pytest.raises(UsageError, match=said):
        planned(options, "patient", units, 100)


def test_a_training_that_goes_on_keeps_the_account(tmp_path):
    the_plan = plan(noise_multiplier=1.0, clip=1.0)

    def go_on(steps):
        ledger = Ledger(the_plan)
        options = TrainOptions(batch=UNITS, warmup=0, steps=steps, log_every=1)

        def kind(*arguments):
            members = [[index] for index in range(UNITS)]
            return Private(*arguments, ledger=ledger, members=members)

        train(Regression(), Rows(), options, tmp_path / "run", resume=True, kind=kind)
        lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
        return ledger.told, [json.loads(line)["epsilon"] for line in lines]

    told, _ = go_on(2)
    assert told["steps_taken"] == 2 and told["epsilon_spent"] == the_plan.spent(2)
    told, epsilons = go_on(9)  # more than was planned: epsilon is never passed
    assert told["steps_taken"] == 4 and told["epsilon_spent"] == the_plan.spent(4)
    assert epsilons == [the_plan.spent(step) for step in (1, 2, 3, 4)]
    other = dataclasses.replace(the_plan, noise_multiplier=0.5)
    with pytest.raises(UserError, match="noise_multiplier"):
        train(
            *(Regression(), Rows(), TrainOptions(batch=UNITS, warmup=0, steps=4), tmp_path / "run"),
            resume=True,
            kind=lambda *a: Private(*a, ledger=Ledger(other), members=[[0]]),
        )


# ------------------------------------------------------------------------------------------ refusals
def test_what_mixes_patients_is_refused_by_name():
    several = Regression()
    several.players["critic"] = nn.Linear(1, 1)
    with pytest.raises(UserError, match="has 2: network, critic"):
        refuse_objective("wolleb", several)
    with pytest.raises(UserError, match="learn from one image at a time, and odd is none"):
        refuse_objective("odd", Regression())
    fitted = SDE.tiny().fitted(public(measured(0.3), SDE.tiny()))
    objective = fitted.objective()
    refuse_objective("sde", objective)
    objective.players["network"].extra = nn.BatchNorm1d(4)
    with pytest.raises(UserError, match=r"statistics over a batch \(extra\)"):
        refuse_objective("sde", objective)


@pytest.mark.parametrize(
    "words, line",
    [
        (["--train.private", "--train.epsilon", "5"], "--range LOW HIGH names it"),
        (["--range", "0", "255", "--train.private", "--train.accumulate", "2"], "leave it"),
        (["--range", "0", "255", "--train.private", "--train.clip", "0"], "largest norm"),
        (["--range", "0", "255", "--train.private", "--conditional"], "--classes N names it"),
        (["--train.epsilon", "5"], "add --train.private"),
        (["--train.private", "--train.epsilon", "-1"], "must be more than 0"),
    ],
)
def test_what_breaks_the_guarantee_is_one_line(toy, tmp_path, capsys, words, line):
    start = ["train", "sde", "--preset", "tiny", "--data", str(toy), "--out", str(tmp_path / "r")]
    assert main([*start, *words]) != 0
    said = capsys.readouterr().err
    assert (
        line in said and "Traceback" not in said and not (tmp_path / "r" / "config.toml").exists()
    )


@pytest.mark.parametrize("method", ["anoddpm", "brain-ldm"])
def test_other_methods_are_refused_by_name(toy, tmp_path, capsys, method):
    words = ["train", method, "--preset", "tiny", "--data", str(toy), "--range", "0", "255"]
    assert main([*words, "--train.private", "--out", str(tmp_path / "r")]) != 0
    assert f"--train.private: {method}" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------ what is written
def measured(std):
    """Facts as if measured on images of that deviation."""
    return Facts(
        keys=("image",),
        channels={"image": 1},
        size={"image": (8, 8)},
        classes=0,
        class_names=(),
        std=std,
        mean=std / 2,
        diameter=10 * std,
        cases=9,
        spectrum={"image": (std, *[std**2] * 32)},
        spacing=(std, 1.0),
    )


def test_a_recipe_is_fitted_to_constants_whatever_the_data_are():
    one, other = (SDE.tiny().fitted(public(measured(std), SDE.tiny())) for std in (0.1, 0.9))
    assert one == other
    assert SDE.tiny().fitted(measured(0.1)) != SDE.tiny().fitted(measured(0.9))
    assert float(one.filtered_network().data_std) == 0.5


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """240 pictures of 120 patients."""
    place, draw = tmp_path_factory.mktemp("private"), np.random.default_rng(0)
    rows, columns = np.mgrid[:8, :8]
    at = draw.uniform(2, 5, (240, 2, 1, 1))
    image = 255 * np.exp(-((rows - at[:, 0]) ** 2 + (columns - at[:, 1]) ** 2) / 6)
    np.savez(
        place / "toy.npz",
        image=image.astype(np.uint8),
        patient=np.array([f"person-{k // 2}" for k in range(240)]),
        split=np.array(["train"] * 200 + ["test"] * 40),
    )
    return place / "toy.npz"


@pytest.fixture(scope="module")
def run(toy, tmp_path_factory):
    """A private training from the command line."""
    out = tmp_path_factory.mktemp("run") / "run"
    words = ["train", "sde", "--preset", "tiny", "--data", str(toy), "--range", "0", "255"]
    words += ["--width", "8", "--train.steps", "3", "--train.batch", "60", "--train.log-every", "1"]
    words += ["--train.private", "--train.epsilon", "30", "--train.draws", "1", "--out", str(out)]
    assert main(words) == 0
    return out


def test_a_run_tells_its_budget_and_nothing_of_its_images(run):
    manifest = json.loads((run / "manifest.json").read_text())
    budget = manifest["private"]
    assert (budget["unit"], budget["units"], budget["steps_taken"]) == ("patient", 100, 3)
    assert 0.97 * 30 < budget["epsilon_spent"] <= 30
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in log] == [{}] * 3
    assert log[0]["epsilon"] < log[1]["epsilon"] < log[2]["epsilon"] == budget["epsilon_spent"]
    data = manifest["data"]
    assert data["fingerprint"] == "" and data["seen"] == {} and data["facts"]["std"] == 0.5
    assert set(data["stored"]) == {"range", "dtype"}
    # whoever adds images to a patient's must not be seen by their number
    assert "cases" not in data and "cases" not in data["facts"]
    states = [path.read_text() for path in run.rglob("*.json")]
    assert not any(
        "person-" in text or '"the data": "' in text.replace('"the data": ""', "")
        for text in states
    )


def test_samples_report_and_card_know_the_budget(run, tmp_path, capsys):
    from radiffuse.report.private import OUTSIDE

    (run / "metrics.json").write_text(json.dumps({"id": "sde", "method": {"fid": {"mean": 1.0}}}))
    assert main(["report", str(run), "--out", str(tmp_path / "page.html")]) == 0
    assert (
        main(["sample", str(run), "--count", "1", "--steps", "2", "--out", str(tmp_path / "s")])
        == 0
    )
    assert main(["pack", str(run), "--out", str(tmp_path / "model.zip")]) == 0
    (run / "metrics.json").unlink()
    told = capsys.readouterr().err
    line = said(json.loads((run / "manifest.json").read_text())["private"])
    assert line.startswith("differentially private per patient: epsilon 29") and line in told
    assert "outside of the guarantee of the private training, and is left out" in told
    page = (tmp_path / "page.html").read_text()
    assert line in page and "noise multiplier" in page and "is not kept" in page
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        assert not [
            name for name in archive.namelist() if "metrics" in name or "checkpoint" in name
        ]
        card, readme = json.loads(archive.read("card.json")), archive.read("README.md").decode()
    assert card["private"]["epsilon"] == 30 and card["numbers"] == []
    assert "240" not in json.dumps(card) + readme and "200 " not in readme
    assert "## Privacy" in readme and OUTSIDE in readme and "epsilon 29" in readme


def test_who_is_not_private_says_nothing():
    assert said({}) == ""


@pytest.mark.parametrize("kind", [NCSN.small, SDE])
def test_chains_of_private_networks_begin_in_noise(kind):
    """The largest distance of two images is not measured: without a constant in its place chains began at sigma 1."""
    facts = dataclasses.replace(measured(0.3), size={"image": (64, 64)})
    recipe = kind().fitted(public(facts, kind()))
    assert recipe.sigma_max == pytest.approx(0.5 * (2 * 64 * 64) ** 0.5, rel=0.01)


def test_only_one_network_of_train_is_private(run, toy, tmp_path, capsys):
    words = [
        "distill",
        str(run),
        "--calls",
        "2",
        "--train.steps",
        "1",
        "--out",
        str(tmp_path / "d"),
    ]
    assert main(words) == 1 and "not trained privately" in capsys.readouterr().err
    words = [
        "train",
        "brain-ldm",
        "--data",
        str(toy),
        "--preset",
        "tiny",
        "--out",
        str(tmp_path / "l"),
    ]
    assert main([*words, "--first.private", "--first.epsilon", "1"]) == 2
    assert "--first.private" in capsys.readouterr().err
    words = ["audit", str(run), "--shadows", "2", "--out", str(tmp_path / "a")]
    assert main(words) == 1 and "trained privately" in capsys.readouterr().err
    private = TrainOptions(steps=1, private=True, epsilon=1.0)
    with pytest.raises(UserError, match="of one network alone"):
        train(None, [1], private, tmp_path / "plain")

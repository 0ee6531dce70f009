"""The training loop on one process."""

import json
import math
import os
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch._dynamo.utils import counters

import training_standins
from radiffuse.applications.generation.ddpm import DDPM
from radiffuse.errors import UsageError, UserError
from radiffuse.training.batches import Batches, Order, seed_of
from radiffuse.training.checkpoint import load_model, newest
from radiffuse.training.ema import posthoc
from radiffuse.training.loop import TrainOptions, train
from radiffuse.training.objective import Denoising
from training_standins import Duel, Regression, Table

FAST = {"batch": 8, "learning_rate": 1e-2, "warmup": 0}


def options(**values):
    return TrainOptions(**{"steps": 6, **FAST, **values})


def state(run):
    """Everything bit-exact resuming is about: weights, averages, moments."""
    return load_file(newest(run) / "state.safetensors")


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def log(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


# --- options


def test_learning_rate_warms_up_decays_and_cools_down():
    chosen = TrainOptions(steps=1000, learning_rate=1.0, warmup=10, decay=100, cooldown=0.2)
    assert chosen.rate(0, 0) == pytest.approx(0.1)
    assert chosen.rate(9, 0) == pytest.approx(1.0)
    assert chosen.rate(100, 0) == pytest.approx(1.0)
    assert chosen.rate(400, 0) == pytest.approx(0.5)
    assert chosen.rate(900, 0) == pytest.approx(0.5 / 3)
    assert chosen.rate(1000, 0) == 0


def test_cooldown_of_a_budget_in_minutes_follows_the_clock():
    chosen = TrainOptions(minutes=10, learning_rate=1.0, warmup=0, cooldown=0.5)
    assert chosen.rate(12345, 300) == pytest.approx(1.0)
    assert chosen.rate(12345, 450) == pytest.approx(0.5)


def test_the_budget_first_reached_ends_the_run():
    chosen = TrainOptions(steps=100, minutes=1)
    assert chosen.share(50, 15) == 0.5
    assert chosen.share(10, 45) == 0.75
    assert TrainOptions().budget() == (10_000, math.inf)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch", 0),
        ("learning_rate", -1.0),
        ("ema", (0.5,)),
        ("cooldown", 2.0),
        ("steps", 0),
        ("mirror", (3,)),
        ("turn", 200.0),
        ("zoom", 1.0),
        ("shift", -0.1),
    ],
)
def test_values_out_of_range_name_the_flag(field, value):
    with pytest.raises(UsageError, match=f"--train.{field.replace('_', '-')} must be"):
        TrainOptions(**{field: value})


# --- order of the data


def test_every_epoch_is_another_permutation_and_batches_run_across():
    order = Order(5, seed=3)
    stream = order(0, 20)
    epochs = [stream[i : i + 5] for i in range(0, 20, 5)]
    assert all(sorted(epoch) == list(range(5)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert [Order(5, seed=3)(start, 3) for start in (3, 12)] == [stream[3:6], stream[12:15]]
    assert Order(5, seed=4)(0, 20) != stream


def test_seeds_are_the_same_on_every_machine():
    assert seed_of(0, 1, 2) == 4727102316523150270
    assert seed_of(0, 12) != seed_of(0, 1, 2) != seed_of(1, 0, 2)


def test_an_error_while_reading_ahead_comes_out_as_it_is(tmp_path):
    class Broken(Table):
        def batch(self, indices):
            raise UserError("case 3: cannot be read")

    with pytest.raises(UserError, match="case 3: cannot be read"):
        Batches(Broken(), batch=4, accumulate=1, seed=0)(0, 10)
    with pytest.raises(UserError, match="case 3: cannot be read"):
        train(Regression(), Broken(), options(), tmp_path)


# --- steps


def test_the_first_step_of_two_players_is_the_one_derived_by_hand(tmp_path):
    """Critic w and generator g, both numbers, Adam's first step is the rate times the sign.

    The critic maximises w g (loss -w g, gradient -g < 0): w goes up by the rate. The generator's
    loss (w g) is computed after that: its gradient is the NEW w, and is kept from the critic.
    """

    class Number(nn.Module):
        def __init__(self, value):
            super().__init__()
            self.value = nn.Parameter(torch.tensor(value))

        def forward(self):
            return self.value

    class Duel:
        def __init__(self):
            self.players = {"critic": Number(0.5), "generator": Number(2.0)}
            self.seen = []

        def losses(self, batch):
            yield "critic", -self.players["critic"]() * self.players["generator"]()
            loss = self.players["critic"]() * self.players["generator"]()
            self.seen.append(loss.item())
            yield "generator", loss

    duel = Duel()
    reached = []  # whose parameter a backward pass gets to
    for name, number in duel.players.items():
        number.value.register_post_accumulate_grad_hook(lambda _, name=name: reached.append(name))
    train(duel, Table(), options(steps=1, learning_rate=0.25, clip=0.0), tmp_path)
    assert duel.seen == [pytest.approx((0.5 + 0.25) * 2.0)]
    assert reached == ["critic", "generator"]
    tensors = state(tmp_path)
    assert tensors["weights/critic.value"] == pytest.approx(0.75)
    assert tensors["weights/generator.value"] == pytest.approx(1.75)
    (line,) = log(tmp_path)
    assert line["gradient_norm"] == {"critic": 2.0, "generator": 0.75}
    assert line["loss"] == {"critic": -1.0, "generator": 1.5}
    # moments after one step: (1 - beta) gradient, nothing from the other player's loss
    assert tensors["optimizer/exp_avg/critic.value"] == pytest.approx(-0.1 * 2.0)
    assert tensors["optimizer/exp_avg/generator.value"] == pytest.approx(0.1 * 0.75)


def test_accumulation_lets_every_micro_batch_take_a_turn_before_the_next(tmp_path):
    class Recorded:
        def __init__(self):
            self.players = {"a": nn.Linear(4, 1), "b": nn.Linear(4, 1)}
            self.order = []

        def losses(self, batch):
            for name in ("a", "b"):
                self.order.append((name, len(batch["x"])))
                yield name, self.players[name](batch["x"]).square().mean()

    objective = Recorded()
    train(objective, Table(), options(steps=1, batch=7, accumulate=3), tmp_path)
    assert objective.order == [(name, n) for name in "ab" for n in (2, 2, 3)]


def test_accumulation_gives_the_gradient_of_the_whole_batch(tmp_path):
    class Still(Regression):
        def losses(self, batch):  # without noise, which is drawn per micro-batch
            yield "net", (self.players["net"](batch["x"]) - batch["y"]).square().mean()

    for parts in (1, 3):
        train(Still(), Table(), options(batch=7, accumulate=parts), tmp_path / str(parts))
    one, three = state(tmp_path / "1"), state(tmp_path / "3")
    for name in one:
        torch.testing.assert_close(one[name], three[name], rtol=1e-4, atol=1e-6)


def test_clipping_shortens_the_gradient(tmp_path):
    train(Regression(factor=1e4), Table(), options(steps=1, clip=0.5, ema=(0.1,)), tmp_path)
    moments = [v for k, v in state(tmp_path).items() if k.startswith("optimizer/exp_avg/")]
    norm = math.sqrt(sum(float(m.square().sum()) for m in moments)) / (1 - 0.9)
    assert norm == pytest.approx(0.5, rel=1e-3)
    assert log(tmp_path)[0]["gradient_norm"]["net"] > 100


def test_it_learns_and_leaves_the_averaged_weights_in_the_players(tmp_path):
    objective = Regression()
    network = objective.players["net"]
    train(objective, Table(), options(steps=300, log_every=100), tmp_path, about={"method": "x"})
    lines = log(tmp_path)
    assert [line["step"] for line in lines] == [100, 200, 300]
    assert lines[-1]["loss"]["net"] < 0.2 * lines[0]["loss"]["net"]
    assert lines[-1]["images"] == 2400
    assert objective.players["net"] is network
    saved = Regression()
    assert load_model(saved, tmp_path / "model.safetensors") == {
        "format": "radiffuse-model-1", "method": "x", "step": "300",
    }  # fmt: skip
    for a, b in zip(network.parameters(), saved.players["net"].parameters(), strict=True):
        assert torch.equal(a, b)
    tensors = state(tmp_path)
    assert torch.equal(network[0].weight, tensors["ema/0.05/net.0.weight"])
    assert not torch.equal(network[0].weight, tensors["weights/net.0.weight"])


def test_frozen_parameters_stay_and_unused_ones_are_no_trouble(tmp_path):
    objective = Regression()
    net = objective.players["net"]
    net[0].requires_grad_(False)
    net.extra = nn.Parameter(torch.ones(2))
    before = net[0].weight.clone()
    train(objective, Table(), options(), tmp_path)
    assert torch.equal(net[0].weight, before)
    assert torch.equal(net.extra, torch.ones(2))
    assert "ema/0.05/net.0.weight" not in state(tmp_path)


@pytest.mark.parametrize("ndim", [2, 3])
def test_channels_last_and_bf16_train_to_about_the_same(tmp_path, ndim):
    class Images(Table):
        def batch(self, indices):
            return {"image": self.x[indices].reshape(-1, 1, *[2] * ndim)[: len(indices)]}

    class Filter:
        def __init__(self):
            torch.manual_seed(0)
            kind = {2: nn.Conv2d, 3: nn.Conv3d}[ndim]
            self.players = {
                "net": nn.Sequential(kind(1, 4, 3, padding=1), kind(4, 1, 3, padding=1))
            }

        def losses(self, batch):
            out = self.players["net"](batch["image"])
            assert out.dtype == torch.float32
            yield "net", (out - batch["image"]).square().mean()

    weights = {}
    for name, chosen in {
        "plain": {},
        "last": {"channels_last": True},
        "bf16": {"precision": "bf16"},
    }.items():
        train(Filter(), Images(width=2**ndim), options(**chosen), tmp_path / name)
        weights[name] = state(tmp_path / name)["ema/0.05/net.0.weight"]
    torch.testing.assert_close(weights["last"], weights["plain"], rtol=1e-3, atol=1e-5)
    assert not torch.equal(weights["bf16"], weights["plain"])
    torch.testing.assert_close(weights["bf16"], weights["plain"], rtol=0.2, atol=0.02)


@pytest.fixture
def traced(monkeypatch):
    """Graphs are traced as for the compiler, and run as they are: making machine code takes half a minute."""
    plainly = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self: plainly(self, backend="aot_eager"))
    torch._dynamo.reset()
    counters.clear()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_compiled_training_is_the_same_to_rounding(tmp_path, traced):
    class Own(nn.Sequential):
        def forward(self, x):  # torch.compile leaves modules of torch's own as they are
            return super().forward(x)

    weights = {}
    for compiled in (False, True):
        objective = Regression()
        objective.players["net"] = Own(*objective.players["net"])
        train(objective, Table(), options(steps=2, compile=compiled), tmp_path / str(compiled))
        weights[compiled] = list(objective.players["net"].parameters())
        assert bool(counters["stats"]["unique_graphs"]) == compiled
    for plain, same in zip(weights[False], weights[True], strict=True):
        assert torch.allclose(plain, same, rtol=1e-5, atol=1e-6)


def test_compiled_training_of_a_denoiser_reaches_its_network(tmp_path, monkeypatch, traced):
    """The objective calls its backbone inside a `Network`; that, too, must be the compiled one."""
    recipe = DDPM(channels=1, size=(8, 8), width=8, multiples=(1,), attention=(), blocks=1)
    network = recipe.network()
    objective = Denoising(network, recipe.times(network.schedule))
    cases = Table(width=64)
    cases.x = cases.x.reshape(-1, 1, 8, 8)
    monkeypatch.setattr(cases, "batch", lambda indices: {"image": cases.x[indices]})
    before = [p.clone() for p in network.parameters()]
    train(objective, cases, options(steps=2, compile=True), tmp_path)
    assert counters["stats"]["unique_graphs"] == 1
    assert any(not torch.equal(p, q) for p, q in zip(before, network.parameters(), strict=True))


def test_fp16_without_a_gpu_is_refused(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UsageError, match="fp16 needs a GPU; use bf16"):
        train(Regression(), Table(), options(precision="fp16"), tmp_path)


def test_a_batch_smaller_than_its_parts_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"--train\.batch 2 is less than the 3 micro-batches"):
        train(Regression(), Table(), options(batch=2, accumulate=3), tmp_path)


def test_snapshots_give_other_widths_after_training(tmp_path):
    train(Regression(), Table(), options(steps=60, snapshot_every=10), tmp_path)
    assert len(list((tmp_path / "snapshots").iterdir())) == 6
    kept = state(tmp_path)["ema/0.1/net.0.weight"]
    torch.testing.assert_close(posthoc(tmp_path, 0.1)["net.0.weight"], kept)
    assert not torch.allclose(posthoc(tmp_path, 0.2)["net.0.weight"], kept, atol=1e-4)


def test_tensorboard_files_are_written_if_wanted(tmp_path):
    train(Regression(), Table(), options(tensorboard=True), tmp_path)
    assert list((tmp_path / "tensorboard").iterdir())


# --- resuming


def test_stopped_and_resumed_is_the_same_as_never_stopped(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(Regression(), Table(), options(steps=30, log_every=10), whole)
    for steps in (7, 18, 30):
        train(Regression(), Table(), options(steps=steps, log_every=10), parts, resume=True)
    assert_same(state(parts), state(whole))
    assert_same(load_file(parts / "model.safetensors"), load_file(whole / "model.safetensors"))


def test_a_resumed_run_cuts_its_log_back(tmp_path):
    train(Regression(), Table(), options(steps=20, log_every=5), tmp_path)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 25, "loss": {}}\n{"step": 3')
    train(Regression(), Table(), options(steps=30, log_every=5), tmp_path, resume=True)
    assert [line["step"] for line in log(tmp_path)] == [5, 10, 15, 20, 25, 30]
    assert log(tmp_path)[4]["loss"]


def test_data_that_go_away_during_training_lose_nothing(tmp_path):
    """The fingerprint is of what was there at the beginning, and is not asked for again."""

    class Passing(Table):
        gone = False

        @property
        def fingerprint(self):
            assert not self.gone, "read again"
            return "table"

        @fingerprint.setter
        def fingerprint(self, value):
            pass

        def batch(self, indices):
            self.gone = True
            return super().batch(indices)

    train(Regression(), Passing(), options(), tmp_path / "run")
    assert newest(tmp_path / "run") is not None


def test_a_started_run_is_not_overwritten(tmp_path):
    train(Regression(), Table(), options(), tmp_path)
    with pytest.raises(UserError, match=r"holds a run already; pass --resume .* or another --out"):
        train(Regression(), Table(), options(), tmp_path)


def test_a_finished_run_says_so_and_gives_its_weights(tmp_path, capsys):
    train(Regression(), Table(), options(), tmp_path)
    before = state(tmp_path)
    again = Regression()
    train(again, Table(), options(), tmp_path, resume=True)
    assert "training is done already (6 steps)" in capsys.readouterr().err
    assert_same(state(tmp_path), before)
    assert torch.equal(again.players["net"][0].weight, before["ema/0.05/net.0.weight"])


@pytest.mark.parametrize(
    ("changed", "flag"),
    [
        ({"batch": 4}, "--train.batch is 4 now and was 8"),
        ({"seed": 5}, "--train.seed is 5 now and was 0"),
        ({"learning_rate": 0.5}, "--train.learning-rate is 0.5 now and was 0.01"),
    ],
)
def test_other_options_are_refused_by_name(tmp_path, changed, flag):
    train(Regression(), Table(), options(), tmp_path)
    with pytest.raises(UserError, match=flag):
        train(Regression(), Table(), options(**changed), tmp_path, resume=True)


def test_another_network_method_or_data_is_refused_by_name(tmp_path):
    train(Regression(), Table(), options(), tmp_path, about={"method": "ddpm"})
    again = {"resume": True, "about": {"method": "ddpm"}}
    with pytest.raises(
        UserError, match=r"expected net\.0\.weight of shape \(9, 4\), found \(8, 4\)"
    ):
        train(Regression(hidden=9), Table(), options(), tmp_path, **again)
    with pytest.raises(UserError, match="the method is ncsn now and was ddpm"):
        train(Regression(), Table(), options(), tmp_path, resume=True, about={"method": "ncsn"})
    other = Table()
    other.fingerprint = "other"
    with pytest.raises(UserError, match="the data is other now and was table"):
        train(Regression(), other, options(), tmp_path, **again)


def test_killed_at_random_moments_and_resumed_is_the_same_as_never_killed(tmp_path):
    """A checkpoint after every step, so that most kills fall into writing one."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    values = {
        "steps": 60,
        **FAST,
        "checkpoint_minutes": 1e-9,
        "snapshot_every": 20,
        "log_every": 10,
    }
    train(Regression(), Table(), TrainOptions(**{**values, "checkpoint_minutes": 60.0}), whole)
    for moment in ((7, 0.0113), (13, 0.0027)):
        arguments = {"out": str(killed), "options": values, "resume": True, "kill_after": moment}
        program = [sys.executable, training_standins.__file__, json.dumps([arguments])]
        done = subprocess.run(program, capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
    step = int(newest(killed).name.removeprefix("step-"))
    assert 0 < step < 60
    train(Regression(), Table(), TrainOptions(**values), killed, resume=True)
    assert_same(state(killed), state(whole))
    names = {path.name for path in killed.iterdir()}
    assert names == {"checkpoint", "log.jsonl", "model.safetensors", "snapshots"}
    assert [line["step"] for line in log(killed)] == list(range(10, 61, 10))
    for path in (whole / "snapshots").iterdir():
        assert_same(load_file(path), load_file(killed / "snapshots" / path.name))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(tmp_path, capsys, number):
    class Interrupted(Regression):
        calls = 0

        def losses(self, batch):
            self.calls += 1
            if self.calls == 4:
                os.kill(os.getpid(), number)
            yield from super().losses(batch)

    handler = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        train(Interrupted(), Table(), options(steps=20), tmp_path / "a")
    assert signal.getsignal(number) is handler
    assert (
        "stopped at step 4, all saved; run again to go on (train: --resume)"
        in capsys.readouterr().err
    )
    assert newest(tmp_path / "a").name == "step-00000004"
    assert (tmp_path / "a" / "model.safetensors").exists()
    train(Regression(), Table(), options(steps=20), tmp_path / "a", resume=True)
    train(Regression(), Table(), options(steps=20), tmp_path / "b")
    assert_same(state(tmp_path / "a"), state(tmp_path / "b"))


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    # a shell starts what it puts in the background with SIGINT ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)

    class Stubborn(Regression):
        def losses(self, batch):
            signal.raise_signal(signal.SIGINT)  # handled before it returns
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("not reached")
            yield

    with pytest.raises(KeyboardInterrupt):
        train(Stubborn(), Table(), options(), tmp_path)
    assert newest(tmp_path) is None


# --- trouble


class Bad(Regression):
    """Goes wrong at a call: the loss, or only its gradient."""

    def __init__(self, at, how):
        super().__init__()
        self.at, self.how, self.calls = at, how, 0

    def losses(self, batch):
        self.calls += 1
        ((name, loss),) = super().losses(batch)
        if self.calls == self.at:
            loss = {"loss": loss * math.inf, "gradient": loss + (0 * loss).sqrt()}[self.how]
        yield name, loss


@pytest.mark.parametrize("how", ["loss", "gradient"])
def test_the_exact_step_of_a_bad_value_is_named_and_the_last_checkpoint_kept(tmp_path, how):
    train(Regression(), Table(), options(steps=5), tmp_path)
    before = state(tmp_path)
    with pytest.raises(UserError, match=f"the {how} of net became (inf|nan) at step 9: "):
        train(Bad(4, how), Table(), options(steps=40), tmp_path, resume=True)
    assert newest(tmp_path).name == "step-00000005"
    assert_same(state(tmp_path), before)


def test_a_case_that_is_not_finite_is_named(tmp_path):
    cases = Table()
    cases.x[17, 2] = math.nan
    with pytest.raises(UserError, match="the data are not finite: x of case case-17;"):
        train(Regression(), cases, options(steps=20), tmp_path)


def test_weights_that_are_not_finite_are_named(tmp_path):
    objective = Regression()
    objective.players["net"][2].bias.data[0] = math.inf
    with pytest.raises(UserError, match=r"at step 0: the weights net\.2\.bias are not finite"):
        train(objective, Table(), options(), tmp_path)


def test_growing_gradients_point_to_the_learning_rate(tmp_path):
    class Diverging(Regression):
        def losses(self, batch):
            total = sum(p.square().sum() for p in self.players["net"].parameters())
            yield "net", -(total**2)

    chosen = options(steps=2000, learning_rate=1e4, log_every=5)
    with pytest.raises(UserError, match=r"the learning rate 10000\.0 is too high"):
        train(Diverging(), Table(), chosen, tmp_path)


def test_no_cases_is_refused(tmp_path):
    with pytest.raises(UserError, match="there are no cases to train on"):
        train(Regression(), Table(cases=0), options(), tmp_path)


def test_a_full_disk_is_one_line_and_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    train(Regression(), Table(), options(), tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("radiffuse.training.tensorfile.save_file", full)
    with pytest.raises(UserError, match="the disk is full"):
        train(Regression(), Table(), options(steps=9), tmp_path, resume=True)
    assert newest(tmp_path).name == "step-00000006"


def test_players_have_their_own_rate_and_some_keep_their_last_weights(tmp_path):
    """Adam's first step is as long as the rate: a factor of 0.5 halves it."""
    objective = Duel()
    objective.rates, objective.unaveraged = {"critic": 0.5}, ("critic",)
    before = {name: player[0].weight.detach().clone() for name, player in objective.players.items()}
    options = TrainOptions(steps=1, batch=8, learning_rate=1e-2, warmup=0, clip=0.0)
    train(objective, Table(), options, tmp_path)
    for name, rate in (("critic", 0.5e-2), ("generator", 1e-2)):
        step = (objective.players[name][0].weight.detach() - before[name]).abs()
        assert float(step.max()) == pytest.approx(rate, rel=1e-3)
    state = load_file(newest(tmp_path) / "state.safetensors")
    averaged = {key.split("/")[2].split(".")[0] for key in state if key.startswith("ema/")}
    assert averaged == {"generator"}


def test_rates_of_nobody_are_refused(tmp_path):
    objective = Duel()
    objective.rates = {"judge": 2.0}
    with pytest.raises(ValueError, match="`rates`"):
        train(objective, Table(), TrainOptions(steps=1, batch=8), tmp_path)

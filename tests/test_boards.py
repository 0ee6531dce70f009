"""Numbers of a training told to MLflow and Weights & Biases as well, also where it was interrupted."""

import json
import sys
import types

import pytest

from radiffuse.errors import UserError
from radiffuse.training.boards import MLflow, boards, flat
from radiffuse.training.loop import TrainOptions, train
from training_standins import Regression, Table

LINE = {"step": 10, "images": 20, "loss": {"network": 0.5, "critic": None}, "text": "no number"}


def options(**values):
    return TrainOptions(
        **{"steps": 6, "batch": 6, "warmup": 2, "checkpoint_minutes": 1e-9, **values}
    )


def logged(run):
    return [flat(json.loads(line)) for line in (run / "log.jsonl").read_text().splitlines()]


def test_numbers_have_the_names_of_their_players():
    assert flat(LINE) == {"step": 10, "images": 20, "loss/network": 0.5}


@pytest.fixture
def mlflow(tmp_path, monkeypatch):
    """A local store, and what a run of it holds by metric: (step, value)."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    pytest.importorskip("mlflow", reason="needs mlflow-skinny")
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path / 'store.db'}"

    def read(run):
        client = MlflowClient(tracking_uri=uri)
        told = json.loads((run / "mlflow.json").read_text())
        held = client.get_run(told["run_id"])
        history = {
            name: [(m.step, m.value) for m in client.get_metric_history(told["run_id"], name)]
            for name in held.data.metrics
        }
        return held.info, history

    return uri, read


@pytest.mark.filterwarnings("ignore")
def test_mlflow_holds_what_the_log_holds_also_after_an_interruption(mlflow, tmp_path):
    uri, read = mlflow
    run = tmp_path / "run"
    train(Regression(), Table(), options(steps=20, log_every=10, mlflow=uri), run)
    first = read(run)[0].run_id
    train(Regression(), Table(), options(steps=40, log_every=10, mlflow=uri), run, resume=True)
    info, history = read(run)
    assert info.run_id == first and info.run_name == "run" and info.status == "FINISHED"
    lines = logged(run)
    (loss,) = (name for name in history if name.startswith("loss"))
    assert sorted(set(history[loss])) == [
        (line["step"], pytest.approx(line[loss])) for line in lines
    ]
    assert [line["step"] for line in lines] == [10, 20, 30, 40]


@pytest.mark.filterwarnings("ignore")
def test_a_store_that_goes_away_ends_no_training(mlflow, tmp_path, monkeypatch, capsys):
    uri, _ = mlflow

    def gone(self, *_):
        raise UserError(f"--train.mlflow {uri}: gone")

    monkeypatch.setattr(MLflow, "write", gone)
    run = tmp_path / "run"
    train(Regression(), Table(), options(steps=20, log_every=5, mlflow=uri), run)
    assert len(logged(run)) == 4 and (run / "model.safetensors").is_file()
    assert capsys.readouterr().err.count("gone; the training goes on") == 1


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_missing_package_is_named_before_anything_is_trained(name, tmp_path, monkeypatch):
    for module in (name, "mlflow.entities", "mlflow.tracking"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=f"pip install 'radiffuse\\[{name}\\]'"):
        train(Regression(), Table(), options(**{name: "anything"}), tmp_path / "run")
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_wandb_is_told_the_same_run_after_an_interruption(tmp_path, monkeypatch):
    """With a stand-in of the package: which calls it gets."""
    calls, told = [], []

    class Run:
        log = staticmethod(lambda numbers, step: told.append((step, numbers)))
        finish = staticmethod(lambda: told.append("end"))

    def init(**words):
        calls.append(words)
        return Run()

    package = types.SimpleNamespace(
        init=init,
        util=types.SimpleNamespace(generate_id=lambda: f"id{len(calls)}"),
        errors=types.SimpleNamespace(Error=RuntimeError),
    )
    monkeypatch.setitem(sys.modules, "wandb", package)
    for _ in range(2):
        (board,) = boards(tmp_path, options(wandb="brains"), 0)
        board.write(flat(LINE), 10)
        board.close()
    assert [words["id"] for words in calls] == ["id0", "id0"]
    assert calls[0]["project"] == "brains" and calls[0]["resume"] == "allow"
    assert told == [(10, flat(LINE)), "end"] * 2

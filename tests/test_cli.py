"""The command line: usage, exit codes, and one line for every mistake."""

import dataclasses
import json
import re
import subprocess
import sys

import pytest
from torch import distributed

from radiffuse import cli, papers
from radiffuse.commands import demo
from radiffuse.training import processes

SHOWN = demo.shown()


@pytest.fixture
def told(capsys):
    """Run a command line in this process; return its exit code, output and error lines."""

    def run(*words):
        code = cli.main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err.splitlines()

    return run


def test_help_names_every_command(told):
    code, out, err = told("--help")
    assert code == 0 and err == []
    assert all(f"\n  {name} " in out for name in cli.COMMANDS)
    assert told() == (0, out, [])


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help(told, command):
    code, out, err = told(command, "--help")
    assert code == 0 and out.startswith(f"usage: radiffuse {command}") and err == []


@pytest.mark.parametrize("command", sorted(set(cli.COMMANDS) - {"bench", "demo"}))
def test_help_has_an_example_that_is_understood(told, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    method = ["ddpm"] if command == "train" else []
    _, out, _ = told(command, *method, "--help")
    (line,) = (line for line in out.splitlines() if line.startswith("For example: radiffuse"))
    code, _, err = told(*line.removeprefix("For example: radiffuse ").split())
    assert code in (0, 1), f"not a mistake in the words: {err}"


@pytest.mark.parametrize("method", papers.implemented())
def test_help_of_train_is_in_groups_and_shows_the_preset(told, method):
    _, out, _ = told("train", method, "--help", "--preset", "paper")
    heads = re.findall(r"(?m)^[ ╭─]*([a-z]+) options", out)
    assert heads[0] == "method" and "train" in heads
    kind = papers.by_id(method).load()
    flags = re.findall(r"(?m)^[ │]*(--[a-z][\w.-]+)", out)
    grouped = re.split(r"(?m)^[ ╭─]*[a-z]+ options", out.partition("sampling options")[2])[0]
    for name in getattr(kind, "AFTER_TRAINING", ()):
        if f"--{name.replace('_', '-')}" in flags:
            assert (
                f"--{name.replace('_', '-')} " in grouped
                or f"--{name.replace('_', '-')}," in grouped
            )
    if hasattr(kind(), "width") and "--width" in flags:
        about = " ".join(out.partition("--width")[2].partition("--")[0].split())
        assert f"(default: {kind().width})" in about


def test_the_version_is_told(told):
    assert told("--version")[1].startswith("radiffuse 0.")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], "there is no command 'trian'; did you mean train"),
        (["train"], "name a method first"),
        (["train", "ddmp", "--data", "brains"], "no method is called 'ddmp'; did you mean ddm"),
        (["train", "ddpm", "--out", "x"], "--data is missing"),
        (["train", "ddpm", "--data", "x"], "--out is missing"),
        (["train", "ddpm", "--data", "x", "--out", "y", "--widht", "3"], "did you mean --width"),
        (["train", "ddpm", "--data", "x", "--out", "y", "--train.step", "3"], "--train.steps"),
        (["train", "ddpm", "--data", "x", "--out", "y", "--preset", "smal"], "did you mean small"),
        (
            ["train", "ddpm", "--data", "x", "--out", "y", "--width", "wide"],
            "--width must be an integer, not 'wide'",
        ),
        (
            ["train", "ddpm", "--data", "x", "--out", "y", "--train.learning-rate", "fast"],
            "--train.learning-rate must be a number, not 'fast'",
        ),
        (
            ["train", "ddpm", "--data", "x", "--out", "y", "--betas", "round"],
            "--betas must be one of 'linear', 'scaled-linear', 'cosine', 'sigmoid', not 'round'",
        ),
        (["train", "ddpm", "--data", "x", "--out", "y", "--train.batch", "0"], "at least 1"),
        (["train", "ddpm", "--data", "x", "--out", "y", "--range", "1"], "LOW HIGH"),
        (["train", "ddpm", "--data", "x", "--out", "y", "--map", "t1"], "write key=column"),
        (["train", "ddpm", "--data", "x", "--out", "y", "z"], "'z' is one word too many"),
        (["show", "syndif"], "did you mean syndiff"),
        (["show"], "missing"),
        (["methods", "--organ", "elbow"], "--organ elbow: no paper has it"),
        (["methods", "--organs", "brain"], "did you mean --organ"),
        (["sample", "run", "--out", "x"], "--count is missing"),
        (["sample", "run", "--out", "x", "--count", "0"], "--count must be at least 1"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(refused, words, said):
    assert said in refused(*words, code=2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "ddpm", "--data", "no/such/folder", "--out", "y"], "no/such/folder"),
        (["train", "--config", "no/such.toml", "--out", "y"], "no/such.toml: no such file"),
        (["sample", "no/such/run", "--count", "1", "--out", "x"], "there is no such run folder"),
        (["predict", "no/such/run", "--out", "x"], "there is no such run folder"),
        (["evaluate", "no/such/run"], "there is no such run folder"),
        (["report", "no/such/run"], "there is no such folder"),
    ],
)
def test_what_is_not_there_is_one_line_and_exit_code_1(refused, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    assert said in refused(*words)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def unbuilt(monkeypatch):
    """smcdiff as a row of the survey that no recipe is there for."""
    rows = tuple(
        dataclasses.replace(row, recipe="") if row.id == "smcdiff" else row for row in papers.PAPERS
    )
    monkeypatch.setattr(papers, "PAPERS", rows)


def test_a_method_without_recipe_says_where_those_that_have_one_are(refused, unbuilt):
    said = refused("train", "smcdiff", "--data", "x", "--out", "y")
    assert "smcdiff is not implemented yet" in said and "`radiffuse methods`" in said


def test_methods_lists_all_papers(told):
    code, out, _ = told("methods")
    assert code == 0 and "34 methods" in out and "syndiff" in out
    survey, _, beyond = out.partition("Beyond the survey:")
    assert "gan" in beyond.split() and "gan" not in survey.split()


def test_methods_as_json_has_the_agreed_fields(told):
    rows = json.loads(told("methods", "--json")[1])
    assert len(rows) == 38
    fields = {
        "id", "number", "title", "citation", "application", "modality", "organ", "formulation",
        "beyond", "implemented",
    }  # fmt: skip
    assert all(set(row) == fields for row in rows)
    by_id = {row["id"]: row for row in rows}
    assert by_id["r2d2"]["number"] == 31 and by_id["sde"]["number"] is None
    assert all(row["implemented"] is True for row in rows)


def test_methods_can_be_filtered(told):
    rows = json.loads(told("methods", "--task", "registration", "--json")[1])
    assert [row["id"] for row in rows] == ["diffusemorph"]
    assert told("methods", "--task", "registration", "--organ", "knee")[1].count("\n0 methods") == 1


def test_show_prints_paper_configuration_and_keys(told):
    code, out, _ = told("show", "ddpm")
    assert code == 0
    for part in ("Ho J, Jain A, Abbeel P", "--preset paper", "[recipe]", "reads        image"):
        assert part in out


def test_show_says_what_is_not_implemented_yet(told, unbuilt):
    code, out, _ = told("show", "smcdiff")
    assert code == 0 and "not implemented yet" in out and "Trippe" in out


def test_an_error_of_ours_is_one_line_that_says_how_to_see_more(refused, monkeypatch):
    def broken(arguments):
        raise ZeroDivisionError("of\nall things")

    monkeypatch.setattr("radiffuse.commands.methods.run", broken)
    line = refused("methods")
    assert "internal error: ZeroDivisionError: of all things" in line
    assert "RADIFFUSE_DEBUG=1" in line
    monkeypatch.setenv("RADIFFUSE_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        cli.main(["methods"])


def test_ctrl_c_is_one_line(refused, monkeypatch):
    def stopped(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("radiffuse.commands.methods.run", stopped)
    assert "interrupted" in refused("methods")


def test_a_command_parts_from_the_other_processes_before_python_shuts_down(told, monkeypatch):
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    monkeypatch.setattr(processes, "world", lambda: 2)
    assert processes.agree([3.0]) == [3.0]
    assert told("methods")[0] == 0
    assert not distributed.is_initialized()


def test_bench_runs_a_file_of_the_benchmarks_folder(refused, told, monkeypatch, tmp_path):
    monkeypatch.setattr("radiffuse.commands.bench.FOLDER", tmp_path)
    assert "not part of the installed package" in refused("bench", "speed")
    main = "if __name__ == '__main__': "
    (tmp_path / "speed.py").write_text(f"import sys\n{main}open(sys.argv[2], 'w').write('{{}}')")
    (tmp_path / "broken.py").write_text(f"{main}raise SystemExit(3)")
    (tmp_path / "speed_worker.py").write_text(main + "pass")
    (tmp_path / "shared.py").write_text("")
    assert told("bench", "--help")[1].strip().endswith("There are: broken, speed")
    assert "did you mean speed" in refused("bench", "sped", code=2)
    assert told("bench", "speed", "--json", tmp_path / "speed.json")[0] == 0, "words are passed on"
    assert (tmp_path / "speed.json").read_text() == "{}"
    assert "broken failed with exit code 3" in refused("bench", "broken")


def test_a_reader_that_goes_away_is_not_an_error():
    command = [sys.executable, "-m", "radiffuse", "methods", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 0


def test_demo_never_replaces_a_folder_of_yours(refused, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    assert "take another --out" in refused("demo", "--out", tmp_path)
    assert (tmp_path / "mine.txt").exists()


def test_demo_tells_the_nearest_model(refused):
    name = next(iter(SHOWN))
    assert f"did you mean {name}" in refused("demo", name[:-1] + "x", code=2)


def test_demo_ends_with_a_page_of_what_was_predicted_and_trained(told, tmp_path):
    out, name = tmp_path / "demo", "brains-noise"
    code, said, _ = told("demo", name, "training", "--out", out, "--minutes", "0.02")
    assert code == 0 and f"$ radiffuse predict {name}" in said and "$ radiffuse train ddpm" in said
    page = (out / "index.html").read_text()
    assert page.count("<section") == 2 and SHOWN[name]["demo"]["says"] in page
    assert (out / name / "report.html").is_file() and (out / "training" / "report.html").is_file()

"""What the shell completes, asked of bash itself."""

import subprocess

import pytest

from radiffuse import cli, papers
from radiffuse.runs.named import shipped


def completed(script, *words):
    """What bash offers for the last of the words."""
    line = " ".join(f"'{word}'" for word in words)
    asked = (
        f"{script}\nCOMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _radiffuse; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
    assert not done.stderr
    return set(done.stdout.split())


@pytest.fixture(scope="module")
def script():
    from radiffuse.commands import completion

    return completion.script()


def test_commands(script):
    assert completed(script, "radiffuse", "") == set(cli.COMMANDS)
    assert completed(script, "radiffuse", "pre") == {"predict"}


def test_methods_and_models(script):
    assert set(papers.implemented()) <= completed(script, "radiffuse", "train", "")
    assert completed(script, "radiffuse", "train", "anod") == {"anoddpm"}
    assert set(shipped()) <= completed(script, "radiffuse", "predict", "brains-")


def test_files_and_flags(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert completed(script, "radiffuse", "predict", "mi") == {"mine"}
    assert completed(script, "radiffuse", "predict", "x", "--sam") == {"--samples"}
    assert "--train.minutes" in completed(script, "radiffuse", "train", "ddpm", "--train.")


def test_both_shells_are_told(capsys):
    assert cli.main(["completion", "zsh"]) == 0 and "bashcompinit" in capsys.readouterr().out
    assert cli.main(["completion", "fish"]) == 2

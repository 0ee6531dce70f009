"""`radiffuse completion bash`: a script that lets the shell complete commands, methods, models and flags."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from ..cli import COMMANDS
from ..papers import implemented
from ..runs.named import shipped
from .parsing import flags_of, parse

_OF_RUNS = ("predict", "sample", "evaluate", "audit", "report", "pack", "push", "export")
_BASH = """# radiffuse: eval "$(radiffuse completion bash)", or into a file that bash-completion reads
_radiffuse() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" command="${{COMP_WORDS[1]}}" words=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="{commands}"
  elif [ "${{word:0:1}}" = "-" ]; then
    case "$command" in
{flags}
    esac
  elif [ "$COMP_CWORD" -eq 2 ]; then
    case "$command" in
      train|show) words="{methods}" ;;
      {runs}) words="{models}" ;;
      models|demo) words="{models}" ;;
      completion) words="bash zsh" ;;
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$word") $(compgen -f -- "$word"))
  [ "$COMP_CWORD" -eq 1 ] || [ "${{word:0:1}}" = "-" ] && COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o filenames -F _radiffuse radiffuse
"""
_ZSH = "autoload -U +X compinit && compinit -u\nautoload -U +X bashcompinit && bashcompinit\n"


@dataclass(frozen=True)
class Flags:
    """For which shell.

    Attributes:
        shell: bash, or zsh.
    """

    shell: Annotated[Literal["bash", "zsh"], tyro.conf.Positional]


def run(arguments: Sequence[str]) -> None:
    """Print the script."""
    flags = parse(Flags, arguments, "radiffuse completion")
    print((_ZSH if flags.shell == "zsh" else "") + script(), end="")


def script() -> str:
    """The script of bash, which zsh reads too."""
    cases = "\n".join(
        f'      {name}) words="{" ".join(_flags(name))}" ;;' for name in COMMANDS if _flags(name)
    )
    return _BASH.format(
        commands=" ".join(COMMANDS),
        methods=" ".join(implemented()),
        models=" ".join(shipped()),
        runs="|".join(_OF_RUNS),
        flags=cases,
    )


def _flags(command: str) -> list[str]:
    """The flags of a command; of `train` those that all methods have."""
    import importlib

    if command == "train":
        from ..training.options import TrainOptions

        own = ("data", "out", "preset", "config", "map", "range", "size", "slices", "resume")
        loop = [flag for flag, _, _ in flags_of(TrainOptions, "--train.")]
        return [*(f"--{name}" for name in own), *loop]
    kind = getattr(importlib.import_module(f".{command}", __package__), "Flags", None)
    return [] if kind is None else [flag for flag, _, _ in flags_of(kind) if flag.startswith("--")]

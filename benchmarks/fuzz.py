"""Malformed inputs over all forms of data and all commands: what each command does about them.

Every input runs in a process of its own, forked from one that has imported everything, under limits of
time and memory. `radiffuse bench fuzz` or `python benchmarks/fuzz.py --count 2000`; exits 1 where a
command broke its word.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import torch
from recorded import RESULTS

import malformed
import malformed_judge as judge
from malformed_judge import Verdict
from radiffuse.data.files import write_json

PATIENCE = judge.PATIENCE + 30
"""Seconds after which a process that does not listen is killed."""
RECORDED = 1000
"""Inputs at least, from the first on, of a run that is kept in benchmarks/results."""


def forked(seed: int, good: Path, folder: Path) -> Verdict:
    """The verdict on the input of a seed, from a process of its own."""
    place, answer = folder / f"seed-{seed}", folder / f"seed-{seed}.json"
    child = os.fork()
    if not child:
        _child(seed, good, place, answer)
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.005)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return Verdict("too long", about=f"seed {seed}")
    if not answer.is_file():
        return Verdict("raised", f"the process ended with {status}", f"seed {seed}")
    return Verdict(**json.loads(answer.read_text()))


def _child(seed: int, good: Path, place: Path, answer: Path) -> None:
    """What C libraries print counts as output too."""
    try:
        torch.set_num_threads(1)  # torch's pool is made anew, before two threads ask for it at once
        place.parent.mkdir(parents=True, exist_ok=True)
        said = answer.with_suffix(".txt")
        to = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(to, 1)
        os.dup2(to, 2)
        verdict = judge.tried(seed, good, place)
        text = said.read_text(errors="replace").strip()
        if verdict.good and text:
            verdict = Verdict("stray output", text[:300], verdict.about, verdict.words)
        answer.write_text(json.dumps(vars(verdict)))
    finally:
        os._exit(0)


def record(verdicts: list[dict[str, Any]]) -> dict[str, Any]:
    """How many inputs of each form ended how."""
    forms: dict[str, Counter[str]] = {}
    for verdict in verdicts:
        forms.setdefault(verdict["about"].partition(":")[0], Counter())[verdict["kind"]] += 1
    return {
        "command": f"python benchmarks/fuzz.py --count {len(verdicts)}",
        "count": len(verdicts),
        "forms": {name: dict(forms[name]) for name in sorted(forms)},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file of all verdicts")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    verdicts = []
    with tempfile.TemporaryDirectory() as name:
        good = malformed.prepare(Path(name) / "good")
        for seed in range(asked.first, asked.first + asked.count):
            verdict = forked(seed, good, Path(name) / "tries")
            verdicts.append({"seed": seed, **vars(verdict)})
            if not verdict.good:
                print(
                    f"{seed}: {verdict.kind}: {verdict.about}\n    {verdict.said[:400]}", flush=True
                )
    for kind, count in Counter(verdict["kind"] for verdict in verdicts).most_common():
        print(f"{count:6} {kind}")
    if asked.out:
        write_json(asked.out, verdicts)
    if asked.first == 0 and asked.count >= RECORDED:
        write_json(RESULTS / "fuzz.json", record(verdicts))
    return int(any(verdict["kind"] in judge.BAD for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())

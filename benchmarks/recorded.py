"""What the benchmarks share: our command line, and records of runs without values of single cases."""

import json
import os
import subprocess
import sys
from pathlib import Path

from radiffuse.data.files import read_json
from radiffuse.runs.run import command_line, environment
from radiffuse.training.checkpoint import MODEL

RESULTS = Path(__file__).resolve().parent / "results"


def radiffuse(*words, processes=1):
    """Run the command line; `processes` share the CPU."""
    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    threads = max(1, len(os.sched_getaffinity(0)) // processes)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    subprocess.run(
        [*start, "radiffuse", *(str(word) for word in words)], check=True, env=environment
    )


def train(method, data, run, minutes, preset="small", more=(), processes=1):
    """Train by the command line; a run that exists is gone on with."""
    words = ["train", method, "--data", *data, "--preset", preset]
    words += ["--train.minutes", minutes, "--out", run, "--resume", *more]
    radiffuse(*words, processes=processes)


def training(folder):
    """How long a finished training took, and how large its network is."""
    last = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
    return {
        "steps": last["step"],
        "images": last["images"],
        "minutes": last["seconds"] / 60,
        "weights_mb": round((folder / MODEL).stat().st_size / 1e6, 1),
    }


def trained_by(run):
    """The command that trained a run."""
    return read_json(run / "manifest.json")["command"]


def made_by(run):
    """What a benchmark of a trained run says of it and of itself."""
    return {
        "prior": {"trained_by": run.manifest["command"], "sha256": run.model_sha256},
        "command": command_line(sys.argv).removeprefix("radiffuse "),
        "environment": environment(),
    }


def brief(record):
    """A record with means and intervals, nothing by patient, and paths as seen from here."""
    if isinstance(record, dict):
        return {key: brief(value) for key, value in record.items() if key != "per_patient"}
    if isinstance(record, list):
        return [brief(value) for value in record]
    return record.replace(f"{Path.cwd().parent}/", "../") if isinstance(record, str) else record

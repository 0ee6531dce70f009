"""`radiffuse serve` under load: many small studies arrive while it works, it is killed on the way and started again.

python benchmarks/watch.py --studies 200

Counts studies that were lost, predicted twice or sent twice; results go to Orthanc (Debian: orthanc orthanc-dicomweb).
Exits 1 where there is one.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import pydicom
from recorded import RESULTS, radiffuse

import scanned
from orthanc import orthanc
from radiffuse.clinic.ledger import Ledger
from radiffuse.data.files import write_json
from radiffuse.runs.run import environment

SIDE, SLICES = 32, 3


def train(folder):
    """A run that has hardly learned: what is measured is what lies around its network."""
    for study in ("one", "two"):
        scanned.series(folder / "data" / study, study=study, size=SIDE)
    words = ["--data", folder / "data", "--slices", "axial", "--range", "0", "700"]
    words += ["--noise", "gaussian", "--preset", "tiny", "--train.steps", "1"]
    radiffuse("train", "anoddpm", *words, "--out", folder / "run")


def arrive(folder, number):
    """One study, copied object by object, every fourth of them twice, as archives do."""
    study, kind = f"study-{number}", "CT" if number % 2 else "MR"
    scanned.series(
        folder / f"{number}", study=study, number=number, slices=SLICES, size=SIDE, modality=kind
    )
    if number % 4 == 0:
        scanned.series(
            folder / f"{number}-again",
            study=study,
            number=number,
            slices=SLICES,
            size=SIDE,
            modality=kind,
        )


def serve(folder, node, *more):
    """Start it."""
    words = ["serve", folder / "run", "--watch", folder / "in", "--out", folder / "out"]
    words += ["--settle", "1", "--steps", "1", "--push", node.web, *more]
    command = [sys.executable, "-m", "radiffuse", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def predicted(folder):
    """When each result was made, by its folder."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("out/0*/*.json")}


def measure(folder, node, studies, killed):
    train(folder)
    (folder / "in").mkdir()

    def arriving():
        for number in range(studies):
            arrive(folder / "in", number)

    thread = threading.Thread(target=arriving)
    thread.start()
    began = time.perf_counter()
    process, sent = serve(folder, node), 0
    for line in process.stdout:
        sent += " objects sent" in line
        if sent == killed:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = predicted(folder)
    thread.join()
    last = serve(folder, node, "--once")
    last.communicate()
    seconds = time.perf_counter() - began
    after = predicted(folder)
    ledger = Ledger(folder / "out", reading=True)
    states, found = ledger.counts(), Counter(job.study for job in ledger.jobs("done"))
    ledger.close()
    files = folder.glob("out/0*/**/*.dcm")
    made = {pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in files}
    there = Counter(node.uids())
    return {
        "studies": studies,
        "objects": studies * SLICES,
        "killed_after": killed,
        "made_when_killed": len(before),
        "states": {state: number for state, number in states.items() if number},
        "lost": studies - len(found) + len(made - there.keys()),
        "predicted_twice": sum(number - 1 for number in found.values())
        + sum(after.get(name) != when for name, when in before.items()),
        "sent_twice": sum(there.values()) - len(there),
        "strangers_in_the_archive": len(there.keys() - made),
        "seconds": seconds,
        "seconds_a_study": seconds / studies,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--json", type=Path, default=RESULTS / "watch.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "orthanc").mkdir()
        with orthanc(folder / "orthanc") as node:
            record = measure(folder, node, arguments.studies, arguments.studies // 2)
    record["command"] = f"python benchmarks/watch.py --studies {arguments.studies}"
    record["environment"] = environment()
    write_json(arguments.json, record)
    print(record)
    wrong = ("lost", "predicted_twice", "sent_twice", "strangers_in_the_archive")
    sys.exit(any(record[word] for word in wrong))


if __name__ == "__main__":
    main()

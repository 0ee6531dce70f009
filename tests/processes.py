"""Processes of their own, forked from one that has torch imported: a tenth of a second each, not four.

Run as a program it is the process that forks: a line of JSON asks, the answer is a line of JSON.
"""

import contextlib
import importlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import traceback


class Forks:
    """Processes that know nothing of this one but the environment they are given."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, name, *arguments, environments=({},)):
        """What a function, "module:function", gives in one process an environment, all at the same time."""
        asked = {"name": name, "arguments": arguments, "environments": environments}
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        answers = [json.loads(each) for each in json.loads(self._process.stdout.readline())]
        assert all("given" in each for each in answers), "\n".join(
            each.get("raised", "") for each in answers
        )
        return [each["given"] for each in answers]

    def on_two(self, name, *arguments):
        """The same on two processes that work together, as torchrun tells them to."""
        with socket.create_server(("127.0.0.1", 0)) as held:
            port = held.getsockname()[1]
        both = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        both |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
        ranks = [{**both, "RANK": str(k), "LOCAL_RANK": str(k)} for k in range(2)]
        return self(name, *arguments, environments=ranks)

    def close(self):
        """End the process that forks."""
        with self._process:
            self._process.stdin.close()


def commands(lines, steps=None):
    """Exit status, standard output and standard error of each command line; steps are of feature networks."""
    from radiffuse import cli
    from radiffuse.metrics import features

    features.STEPS = steps or features.STEPS
    told = []
    for line in lines:
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = cli.main([str(word) for word in line])
            out.seek(0)
            err.seek(0)
            told.append((code, out.read(), err.read()))
    return told


def _forked(name, arguments, environment, held):
    """Begin a process that puts what the function gives into an open file; its number."""
    if child := os.fork():
        return child
    try:
        os.environ.update(environment)
        module, function = name.split(":")
        json.dump({"given": getattr(importlib.import_module(module), function)(*arguments)}, held)
    except BaseException:
        json.dump({"raised": traceback.format_exc()}, held)
    finally:
        held.flush()
        os._exit(0)


def _answers(name, arguments, environments):
    """What each process has put into its file."""
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in environments]
        children = [
            _forked(name, arguments, environment, held)
            for environment, held in zip(environments, files, strict=True)
        ]
        for child in children:
            os.waitpid(child, 0)
        for held in files:
            held.seek(0)
        return [held.read() or "{}" for held in files]


if __name__ == "__main__":
    import radiffuse.commands.sample  # noqa: F401  once for all: every fork has it then

    sys.modules["processes"] = sys.modules["__main__"]
    for line in sys.stdin:
        print(json.dumps(_answers(**json.loads(line))), flush=True)

"""`radiffuse view`: pages for whoever has the token, of what lies in the folder and of nothing else."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from radiffuse import cli
from radiffuse.commands.lock import writing
from radiffuse.data.files import write_json

pytest.importorskip("fastapi", reason="needs fastapi")
from starlette.testclient import TestClient

from radiffuse.commands.viewing import COOKIE, application

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
TOKEN = "a-token-of-this-test"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A run, two predictions of it with other seeds, and a folder beside that is none of it."""
    outside = tmp_path_factory.mktemp("view")
    root = outside / "runs"
    words = ["--data", "brains:count=12,size=32,label=none", "--map", "image=t1"]
    small = ["--preset", "tiny", "--train.steps", "2", "--out", str(root / "one")]
    assert cli.main(["train", "score-mri", *words, *small]) == 0
    for seed in ("1", "2"):
        out = str(root / "predicted" / f"seed{seed}")
        assert (
            cli.main(["predict", str(root / "one"), "--seed", seed, "--steps", "2", "--out", out])
            == 0
        )
    write_json(outside / "secret" / "predictions.json", {"predictions": [], "settings": {}})
    (root / "link").symlink_to(outside / "secret")
    return root


@pytest.fixture
def client(root):
    with TestClient(application(root, TOKEN), base_url="http://127.0.0.1:8000") as client:
        client.cookies.set(COOKIE, TOKEN)
        yield client


def test_nothing_is_shown_without_the_token(root):
    with TestClient(application(root, TOKEN), base_url="http://127.0.0.1:8000") as client:
        for path in (
            "/",
            "/of?path=one",
            "/beside?one=a&other=b",
            "/?token=wrong",
            "/docs",
            "/openapi.json",
        ):
            answer = client.get(path)
            assert answer.status_code == 403 and "one" not in answer.text.partition("open")[0]
        answer = client.get(f"/?token={TOKEN}")
        assert answer.status_code == 200 and TOKEN not in str(answer.url), "out of the address bar"
        assert "httponly" in answer.history[0].headers["set-cookie"].lower()


def test_a_page_elsewhere_whose_name_leads_here_gets_nothing(root):
    with TestClient(application(root, TOKEN), base_url="http://evil.example:8000") as client:
        assert client.get(f"/?token={TOKEN}").status_code == 403


def test_the_list_names_runs_and_predictions(client):
    page = client.get("/").text
    assert "score-mri (tiny)" in page and "trained 2 steps" in page
    for name in ("predicted/seed1", "predicted/seed2"):
        assert f">{name}</a>" in page
    assert "secret" not in page and ">link<" not in page


def test_reports_are_those_of_the_command(client):
    run = client.get("/of", params={"path": "one"}).text
    assert "<h2>Training</h2>" in run and "http-equiv" not in run
    found = client.get("/of", params={"path": "predicted/seed1"}).text
    assert "brain0000_low" in found and "<span>image, given</span>" in found


def test_a_run_in_training_is_read_anew(root, client):
    with writing(root / "one", "radiffuse train"):
        assert 'http-equiv="refresh"' in client.get("/of", params={"path": "one"}).text
        assert 'http-equiv="refresh"' in client.get("/").text


def test_two_predictions_stand_case_by_case(client):
    names = {"one": "predicted/seed1", "other": "predicted/seed2"}
    page = client.get("/beside", params=names).text
    assert page.count("<h2>brain0000") == 3 and page.count("<figure>") == 6
    none = client.get("/beside", params={"one": "one", "other": "predicted/seed1"})
    assert none.status_code == 404 and "no case is shown in both" in none.text


@pytest.mark.parametrize(
    "path",
    [
        *("..", "../secret", "one/../../secret", "link", "/etc", "/", "predicted/../../secret"),
        *("one\0", "x" * 5000, "nothing", "one/config.toml", "....//secret", "%2e%2e/secret"),
    ],
)
def test_nothing_outside_of_the_folder_is_read(path, client):
    answer = client.get("/of", params={"path": path})
    assert answer.status_code == 404 and "<h2>" not in answer.text


@pytest.mark.parametrize("path", ["/../secret", "/%2e%2e/secret", "/of/../../secret", "/static/x"])
def test_no_other_address_answers(path, client):
    assert client.get(path).status_code in (404, 403)


def test_names_are_no_html(tmp_path):
    write_json(tmp_path / "<b>x" / "predictions.json", {"predictions": [], "settings": {}})
    with TestClient(application(tmp_path, TOKEN), base_url="http://localhost") as client:
        client.cookies.set(COOKIE, TOKEN)
        page = client.get("/").text
        assert "<b>x" not in page and "&lt;b&gt;x" in page


def test_the_command_serves_until_it_is_interrupted(root):
    started = subprocess.Popen(
        [sys.executable, "-m", "radiffuse", "view", str(root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        address = re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", started.stdout.readline())[0]
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        assert b"score-mri (tiny)" in opener.open(address, timeout=30).read()
    finally:
        started.send_signal(signal.SIGINT)
        _, err = started.communicate(timeout=30)
    assert started.returncode == 0 and err == ""


def test_what_cannot_be_served_is_one_line(root, tmp_path, capsys):
    assert cli.main(["view", str(tmp_path / "none")]) == 1
    assert "there is no such folder" in capsys.readouterr().err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        assert cli.main(["view", str(root), "--port", port]) == 1
    assert "cannot be taken" in capsys.readouterr().err

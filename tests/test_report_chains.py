"""Backbones in a report: turned by a viewer that is inside of the page, whatever a file holds."""

import json
import re

import torch

from radiffuse.data.files import write_json
from radiffuse.data.formats.proteins import write_backbone
from radiffuse.report import write_report

DATA = re.compile(r'<script type="application/json" id="chains">(.*?)</script>', re.S)


def predictions(folder, names):
    entries = [{"case": name, "files": {"backbone": name}} for name in names]
    write_json(folder / "predictions.json", {"predictions": entries, "settings": {}})


def chain(count):
    return torch.cumsum(torch.full((count, 3), 2.2), dim=0)


def test_chains_stand_in_the_page_with_their_viewer(tmp_path):
    write_backbone(tmp_path / "one.pdb", chain(5), torch.tensor([0.0, 1, 1, 0, 0]))
    write_backbone(tmp_path / "two.cif", chain(7))
    predictions(tmp_path, ["one.pdb", "two.cif"])
    page = write_report(tmp_path).read_text()
    told = json.loads(DATA.search(page)[1])
    assert [each["format"] for each in told] == ["pdb", "mmcif"]
    assert told[0]["text"] == (tmp_path / "one.pdb").read_text()
    assert "$3Dmol.createViewer" in page and len(page) > 500_000
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page), "nothing is loaded"


def test_a_page_without_chains_runs_no_script(tmp_path):
    predictions(tmp_path, [])
    assert "<script" not in write_report(tmp_path).read_text()


def test_a_file_cannot_end_the_element_it_stands_in(tmp_path):
    write_backbone(tmp_path / "a.pdb", chain(4))
    text = "REMARK </script><script>alert(1)</script>\n" + (tmp_path / "a.pdb").read_text()
    (tmp_path / "a.pdb").write_text(text)
    (tmp_path / "<b>.pdb").write_text(text)
    predictions(tmp_path, ["a.pdb", "<b>.pdb"])
    page = write_report(tmp_path).read_text()
    assert "<script>alert(1)" not in page and "<b>.pdb" not in DATA.sub("", page)
    assert json.loads(DATA.search(page)[1])[0]["text"] == text


def test_files_outside_of_the_folder_are_left_out(tmp_path):
    inside = tmp_path / "out"
    inside.mkdir()
    write_backbone(tmp_path / "secret.pdb", chain(4))
    (inside / "link.pdb").symlink_to(tmp_path / "secret.pdb")
    predictions(inside, ["link.pdb"])
    assert "<script" not in write_report(inside).read_text()

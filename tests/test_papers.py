"""The taxonomy: 31 papers in the survey's order, three generic formulations, filters."""

import json
import re
import subprocess
import sys

import pytest

from radiffuse import papers
from radiffuse.errors import UsageError

IDS = [
    "ddpm-conversion", "umm-csgm", "syndiff", "score-inverse", "mc-ddpm", "score-mri",
    "diffuse-recon", "adadiff", "bayes-mri", "self-score", "mcg", "diffusemorph", "diffmic",
    "brainspade", "darl", "segmentation-ensembles", "pet-ddpm", "oct-ddpm", "brain-ldm", "mfdpm",
    "dispr", "ddpm-3d", "ddm", "anoddpm", "diff-scm", "swiss-army", "diffusion-anomaly",
    "fast-anomaly", "mdda", "smcdiff", "r2d2",
]  # fmt: skip


def test_the_papers_stand_in_the_surveys_order_followed_by_the_generic_formulations():
    numbered = [paper for paper in papers.PAPERS if paper.number is not None]
    assert [paper.number for paper in numbered] == list(range(1, 32))
    assert [paper.id for paper in numbered] == IDS
    assert [paper.id for paper in papers.PAPERS[31:]] == ["ddpm", "ncsn", "sde"]


def test_the_papers_stand_in_the_surveys_applications():
    """Kazerouni et al. 2023, figure 4: the first word of each paper's application."""
    found = [re.match(r"\w+", paper.application)[0] for paper in papers.PAPERS[:31]]
    survey = [
        *(["translation"] * 3 + ["reconstruction"] * 8 + ["registration", "classification"]),
        *(["segmentation"] * 3 + ["denoising"] * 2 + ["generation"] * 5),
        *(["anomaly"] * 5 + ["other"] * 3),
    ]
    assert found == survey


def test_what_goes_beyond_the_survey_stands_apart():
    assert all(paper.beyond in ("family", "few steps") for paper in papers.BEYOND)
    assert not any(paper.beyond for paper in papers.PAPERS)
    assert papers.rows() == papers.PAPERS + papers.BEYOND
    assert len(set(papers.ids())) == len(papers.rows())


FAMILIES = {"DDPM", "NCSN", "SDE", "diffusion"}
BEYOND = FAMILIES | {"GAN", "VAE", "flow", "energy"}


@pytest.mark.parametrize("paper", papers.rows(), ids=papers.ids())
def test_every_row_is_complete(paper):
    for field in ("title", "authors", "venue", "application", "modality", "organ", "formulation"):
        value = getattr(paper, field)
        assert value == value.strip() and value
    assert paper.citation.startswith(paper.authors) and paper.title in paper.citation
    assert any(str(paper.year + later) in paper.citation for later in (0, 1, 2))
    assert paper.url.startswith("https://")
    family = BEYOND if paper.beyond else FAMILIES
    assert any(word in paper.formulation for word in family)


def test_a_method_is_found_by_its_id():
    assert papers.by_id("syndiff").number == 3


@pytest.mark.parametrize(
    ("typed", "meant"), [("syndif", "syndiff"), ("DDPM", "ddpm"), ("brain", "brain-ldm")]
)
def test_a_mistyped_id_names_the_nearest(typed, meant):
    with pytest.raises(UsageError, match=f"did you mean {meant}"):
        papers.by_id(typed)


def test_filters_ignore_case_and_match_from_the_start_of_a_word():
    by_modality = {paper.id for paper in papers.select(modality="ct")}
    assert {"ddpm-conversion", "score-inverse", "mcg", "fast-anomaly"} <= by_modality
    assert "oct-ddpm" not in by_modality
    assert {paper.id for paper in papers.select(modality="OCT")} == {"oct-ddpm"}
    assert papers.select(modality="MRI") == papers.select(modality="MR")


def test_filters_narrow_each_other():
    found = papers.select(task="reconstruction", organ="KNEE", formulation="sde")
    assert {paper.id for paper in found} == {"score-mri"}


def test_a_filter_that_nothing_matches_names_the_values():
    with pytest.raises(UsageError, match=r"--organ elbow: no paper has it; .*\bknee\b"):
        papers.select(organ="elbow")


def test_the_rows_need_no_torch():
    code = "import json, sys, radiffuse.papers; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.check_output([sys.executable, "-c", code]))
    assert "radiffuse.papers" in loaded and not {"torch", "numpy"} & set(loaded)

"""Values that no training could use are refused before one begins, in one line that names the flag."""

import dataclasses
import math
import typing
from pathlib import Path

import pytest
import torch

from radiffuse import papers
from radiffuse.applications import fields
from radiffuse.applications.generation.ddpm import DDPM
from radiffuse.applications.generation.ncsn import NCSN
from radiffuse.applications.ranges import Checked, OutOfRange, at_least, none_or, one_or_more, up_to
from radiffuse.errors import UsageError, UserError
from radiffuse.runs.config import Config, DataSource
from radiffuse.runs.run import Run

FREE = ("law_mean", "latent_shift")
"""Numbers that may be anything finite."""


def rules(kind):
    return {
        k: rule
        for base in reversed(kind.__mro__)
        for k, rule in vars(base).get("RULES", {}).items()
    }


def numbers(kind):
    """The fields of a recipe that hold numbers."""
    hints = typing.get_type_hints(kind)
    kinds = (int, float, tuple[int, ...], tuple[float, ...])
    return {field.name for field in dataclasses.fields(kind) if hints[field.name] in kinds}


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (at_least(1), (1, 2.5), (0, -math.inf, math.inf, math.nan)),
        (up_to(1), (1e-9, 1), (0, 1.1, -1, math.nan)),
        (none_or(at_least(2)), (0, 2), (1, -1)),
        (one_or_more(at_least(1)), ((1,), (2, 3)), ((), (1, 0))),
    ],
)
def test_rules_hold_where_they_say(rule, good, bad):
    @dataclasses.dataclass(frozen=True)
    class Settings(Checked):
        RULES = {"some_value": rule}  # noqa: RUF012
        some_value: object

    for value in good:
        Settings(value)
    for value in bad:
        with pytest.raises(OutOfRange, match=r"^--some-value (must be|needs)"):
            Settings(value)


def test_a_nearer_rule_replaces_a_farther_one():
    assert NCSN(steps=0).steps == 0
    with pytest.raises(UsageError, match="--steps must be at least 1, not 0"):
        DDPM(steps=0)


@pytest.mark.parametrize("method", papers.implemented())
def test_every_number_of_a_recipe_has_a_rule(method):
    kind = papers.by_id(method).load()
    assert numbers(kind) - rules(kind).keys() - set(FREE) == set()


@pytest.mark.parametrize("method", papers.implemented())
def test_every_ruled_field_refuses_what_is_no_number(method):
    kind = papers.by_id(method).load()
    for name in rules(kind).keys() & numbers(kind):
        wrong = (math.nan,) if isinstance(getattr(kind(), name), tuple) else math.nan
        with pytest.raises(OutOfRange, match=f"--{name.replace('_', '-')} "):
            dataclasses.replace(kind(), **{name: wrong})


REFUSED = [
    ("ddpm", "--width 0", "--width must be between 1 and 65535, not 0"),
    ("ddpm", "--width -4", "--width must be between 1 and 65535, not -4"),
    ("ddpm", "--patch 0", "--patch must be between 1 and 1000, not 0"),
    ("ddpm", "--multiples", "--multiples needs one value or more"),
    ("ddpm", "--multiples 1 0", "--multiples must be between 1 and 1000, not 0"),
    ("ddpm", "--dropout 2", "--dropout must be at least 0 and less than 1, not 2"),
    ("ddpm", "--blocks 0", "--blocks must be between 1 and 1000, not 0"),
    ("ddpm", "--attention 9", "--attention 9: the levels of --multiples run from 0 to 3"),
    ("ddpm", "--data-std -1", "--data-std must be at least 0, not -1"),
    ("ddpm", "--size 0 0", "--size must be between 1 and 65535, not 0"),
    ("ddpm", "--size -4 -4", "--size must be between 1 and 65535, not -4"),
    ("ddpm", "--timesteps 0", "--timesteps must be at least 2, not 0"),
    ("ddpm", "--timesteps 10", "--timesteps must be more than 20 where betas are linear, not 10"),
    ("ddpm", "--steps 0", "--steps must be at least 1, not 0"),
    ("ddpm", "--start 5", "--start must be more than 0 and at most 1, not 5"),
    ("ddpm", "--start 0.2 --stop 0.3", "--stop must be less than --start, 0.2, not 0.3"),
    ("ddpm", "--label-drop 5", "--label-drop must be between 0 and 1, not 5"),
    ("ddpm", "--guidance nan", "--guidance must be at least 0, not nan"),
    ("ddpm", "--classes 3", "--classes 3 needs --conditional or --classifier"),
    ("ddpm", "--sampler langevin", "--sampler must be one of"),
    ("ddpm", "--sampler ddpm-learned", "--sampler ddpm-learned needs a learned variance"),
    ("sde", "--sampler langevin", "--sampler must be one of"),
    ("sde", "--sigma-max -1", "--sigma-max must be 0 or more than 0.01, not -1"),
    ("sde", "--law-std 0", "--law-std must be more than 0, not 0"),
    ("ncsn", "--levels 1", "--levels must be 0 or at least 2, not 1"),
    ("ncsn", "--steps 1", "--steps must be 0 or at least 2 with --sampler langevin, not 1"),
    ("ncsn", "--sigma-min 0", "--sigma-min must be more than 0, not 0"),
    ("ncsn", "--sigma-max 0.001", "--sigma-max must be more than --sigma-min, 0.0"),
    ("ncsn", "--count 0", "--count must be at least 1, not 0"),
    ("anoddpm", "--depth 2", "--depth must be more than 0 and at most 1, not 2"),
    ("anoddpm", "--rate 1", "--rate must be more than 0 and less than 1, not 1"),
    ("anoddpm", "--octaves 0", "--octaves must be at least 1, not 0"),
    ("ddpm-conversion", "--samples 0", "--samples must be at least 1, not 0"),
    ("ddpm-conversion", "--overlap 1", "--overlap must be at least 0 and less than 1, not 1"),
    ("segmentation-ensembles", "--scale 0", "--scale must be more than 0, not 0"),
    (
        "segmentation-ensembles",
        "--no-learned-variance",
        "--sampler ddpm-learned needs a learned variance, and this network learns none; take ddpm",
    ),
    ("oct-ddpm", "--step 101", "--step must be at most --timesteps, 100, not 101"),
    ("pet-ddpm", "--counts", "--counts needs one value or more"),
    ("diffmic", "--stem 3", "--stem must be 1, 2 or 4, not 3"),
    ("syndiff", "--timesteps 0", "--timesteps must be at least 1, not 0"),
    ("syndiff", "--attention 7", "--attention 7: the levels of --multiples run from 0 to 5"),
    ("ddm", "--frames 1", "--frames must be at least 2, not 1"),
    ("score-mri", "--steps 0", "--steps must be at least 1, not 0"),
]


@pytest.mark.parametrize(
    ("method", "flags", "said"), REFUSED, ids=lambda x: str(x).split(" must")[0]
)
def test_a_wrong_value_is_refused_before_the_data_are_read(refused, method, flags, said):
    words = [
        "train",
        method,
        "--data",
        "no/such",
        "--out",
        "x",
        "--preset",
        "paper",
        *flags.split(),
    ]
    assert f"error: {said}" in refused(*words, code=2)


@pytest.mark.parametrize(
    ("method", "flags", "said"),
    [
        (
            "ddpm",
            "--grid log-snr",
            "--grid log-snr: the log-SNR is infinite at an end; give start < 1",
        ),
        ("ddpm", "--zero-terminal", "--start 1: no signal is left there, and --predicts noise"),
        (
            "ddpm",
            "--zero-terminal --predicts flow --grid karras",
            "--grid karras: this schedule has",
        ),
        ("ddpm", "--conditional --classes 1", "--classes 1: the data have 2 classes"),
        (
            "sde",
            "--process flow",
            "--predicts noise (take flow, velocity or edm), --sampler reverse-diffusion",
        ),
        ("ncsn", "--sigma-min 1e5", "--sigma-min must be less than the largest level"),
        ("ddpm-conversion", "--grid log-snr", "--grid log-snr: the log-SNR is infinite at an end"),
    ],
)
def test_a_chain_that_cannot_be_walked_is_refused_before_training(
    refused, tmp_path, method, flags, said
):
    data = "brains:count=24,size=32,lesions=0.5,label=lesion"
    maps = (
        ["--map", "source=t1", "target=t2"]
        if method == "ddpm-conversion"
        else ["--map", "image=t1"]
    )
    words = ["train", method, "--data", data, *maps, "--preset", "paper", *flags.split()]
    words += ["--out", tmp_path / "run"]
    assert said in refused(*words, code=2)
    assert not (tmp_path / "run").exists()


def run_of(recipe, method):
    made_with = Config(method, "tiny", fields.plain(recipe), {}, DataSource("brains"))
    return Run(Path("run"), made_with, recipe, None, {}, "")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": "0"}, "--set: steps must be at least 1, not 0"),
        ({"start": "5"}, "--set: start must be more than 0 and at most 1, not 5"),
        ({"start": "0.5", "stop": "1"}, "--set: stop must be at least 0 and less than 1, not 1"),
        ({"start": "0.5", "stop": "0.6"}, "--set: stop must be less than --start, 0.5, not 0.6"),
        ({"sampler": "langevin"}, "--set: sampler must be one of"),
    ],
)
def test_a_wrong_value_is_refused_after_training_too(settings, said):
    with pytest.raises(UsageError, match=said):
        run_of(DDPM.tiny(), "ddpm").with_settings(settings)
    with pytest.raises(UsageError, match="--steps must be at least 1, not 0"):
        run_of(DDPM.tiny(), "ddpm").with_steps(0)


def test_a_wrong_value_in_a_configuration_names_the_file():
    with pytest.raises(
        UserError, match=r"config.toml: \[recipe\]: width must be between 1 and 65535, not 0"
    ):
        fields.build(DDPM, {"width": 0}, where="config.toml: [recipe]")


def test_a_ladder_walked_by_another_sampler_has_all_its_levels():
    recipe = NCSN(sampler="ddpm", sigma_max=10.0, levels=50)
    times = recipe.make_grid(recipe.schedule())
    assert torch.equal(times, torch.linspace(1, 0, 51, dtype=torch.float64))

"""The library from Python: what the commands give, as objects."""

import dataclasses
import io
import json
import pydoc
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image as Picture

import radiffuse as rd
from radiffuse import cli
from radiffuse.data.formats.by_ending import read_image, save_image
from radiffuse.errors import UserError

BRAINS = "brains:count=12,size=16"
TINY = {"preset": "tiny", "steps": 2, "batch": 4}


@pytest.fixture(scope="module")
def drawing(tmp_path_factory, hasty_judge):
    return rd.train("ddpm", BRAINS, tmp_path_factory.mktemp("api") / "run", **TINY)


@pytest.fixture(scope="module")
def finding(tmp_path_factory):
    return rd.train("anoddpm", BRAINS, tmp_path_factory.mktemp("api") / "run", **TINY, healthy=0)


@cache
def images():
    cases = rd.open(BRAINS)
    return [cases[index]["image"] for index in range(len(cases))]


def test_a_training_is_that_of_the_command(drawing, tmp_path):
    words = ["train", "ddpm", "--data", BRAINS, "--preset", "tiny", "--train.steps", "2"]
    assert cli.main([*words, "--train.batch", "4", "--out", str(tmp_path / "run")]) == 0
    assert rd.load(tmp_path / "run").run.model_sha256 == drawing.run.model_sha256
    assert drawing.run.config.train["steps"] == 2 and "tiny" in repr(drawing)


def test_samples_are_those_of_the_command(drawing, tmp_path, capsys):
    made = drawing.sample(3, steps=2, seed=5)
    words = ["--count", "3", "--steps", "2", "--seed", "5", "--out", str(tmp_path / "out")]
    assert capsys.readouterr().out == "", "nothing is printed of a folder that goes"
    assert cli.main(["sample", str(drawing.run.path), *words]) == 0
    for number, image in enumerate(made):
        written = read_image(tmp_path / "out" / f"sample-{number:05d}.png")
        assert torch.equal(image.data, written.data) and image.size == (16, 16)


def test_settings_are_flags_or_fields_and_wrong_ones_are_named(drawing):
    assert len(drawing.sample(1, steps=2, sampler="ddim")) == 1
    with pytest.raises(UserError, match="smapler"):
        drawing.sample(1, smapler="ddim")
    with pytest.raises(UserError, match="steps"):
        drawing.sample(1, steps=0)


def test_a_path_an_image_an_array_and_a_tensor_are_predicted_alike(finding, tmp_path):
    image = images()[0]
    path = save_image(image, tmp_path / "0000.png")
    plain = image.data[0]
    asked = [path, image, plain, plain.numpy(), {"image": image.data}]
    first, *others = [finding.predict(each, depth=0.2)[0] for each in asked]
    assert set(first.outputs) >= {"anomaly", "healthy"} and first["healthy"].size == image.size
    for other in others:
        assert other.case == first.case == "0000" and set(other.outputs) == set(first.outputs)
        for key, value in first.outputs.items():
            same = torch.equal(value.data, other[key].data) if isinstance(value, rd.Image) else None
            assert value == other[key] if same is None else same, key


def test_what_is_said_of_an_array_counts_and_of_cases_is_refused(finding):
    image = images()[0].data[0]
    plain, wide = (
        finding.predict(image.float(), depth=0.2, **said)[0]["healthy"].data
        for said in ({}, {"range": (0, 1000)})
    )
    assert float(wide.max()) > 300 > float(plain.max())
    large = torch.nn.functional.interpolate(image[None, None].float(), scale_factor=2)[0, 0]
    assert finding.predict(large, depth=0.2, size=(16, 16))[0]["healthy"].size == (16, 16)
    cases = rd.from_iterable([{"image": images()[0].data}])
    for said in ({"range": (0, 1000)}, {"size": (16, 16)}, {"grid": "input"}):
        with pytest.raises(
            UserError, match=f"{next(iter(said))}: cases in memory are taken as they are"
        ):
            finding.predict(cases, depth=0.2, **said)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("nowhere.png", "no such file"),
        (torch.full((16, 16), torch.nan), "256 NaN or infinite voxels"),
        (torch.ones(16, 16), "constant"),
        (torch.rand(0, 16), "no tensor, number or text"),
        (["a.png"], "no tensor, number or text"),
        (torch.rand(16, 16, 16), "no channel axis"),
        (torch.rand(2, 1, 16, 16), "was trained on pictures"),
        (torch.rand(16, 16, dtype=torch.complex64), "is complex"),
    ],
    ids=["path", "nan", "constant", "empty", "list", "volume", "batch", "complex"],
)
def test_what_cannot_be_predicted_is_said_in_a_line(finding, data, said):
    with pytest.raises(UserError, match=said) as caught:
        finding.predict(data, depth=0.2)
    assert "\n" not in str(caught.value)


def test_held_out_cases_are_predicted_where_nothing_is_named(finding, tmp_path):
    found = finding.predict(out=tmp_path / "kept", depth=0.2)
    held_out = rd.open(BRAINS).held_out()
    assert [each.case for each in found] == list(held_out.ids)
    assert json.loads((tmp_path / "kept" / "predictions.json").read_text())["predictions"]
    assert found[0].about["patient"] == held_out.patients[0]
    assert "anomaly" in repr(found[0]) and "<img" in found[0]._repr_html_()


def test_cases_in_memory_are_trained_on_and_measured(tmp_path):
    cases = rd.from_iterable(
        {"image": image.data, "patient": f"p{k}", "split": split}
        for k, (image, split) in enumerate(zip(images(), ["train"] * 8 + ["test"] * 4, strict=True))
    )
    model = rd.train("ddpm", cases, tmp_path / "run", **TINY)
    assert model.run.config.data.path == ""
    with pytest.raises(UserError, match="trained on cases in memory; name data"):
        model.evaluate(count=4)
    with pytest.raises(UserError, match="already"):
        rd.train("ddpm", cases, tmp_path / "run", **TINY)
    again = rd.train("ddpm", cases, tmp_path / "run", resume=True, **TINY)
    assert again.run.model_sha256 == model.run.model_sha256


def test_an_evaluation_is_the_record_of_the_command(drawing):
    record = drawing.evaluate(count=8, steps=2)
    assert record == json.loads((drawing.run.path / "metrics.json").read_text())
    assert record["id"] == "ddpm" and "baseline" in record


def test_the_network_is_a_denoiser_for_any_sampler(drawing):
    denoiser = drawing.denoiser
    x = torch.randn(2, 1, 16, 16)
    made = rd.DPMSolver(denoiser)(x, rd.grids.uniform(3))
    assert made.shape == x.shape and bool(made.isfinite().all())


def test_a_case_shows_itself():
    cases = rd.open(BRAINS)
    case = cases[-1]
    assert case["case"] == cases.ids[-1] and repr(cases).startswith("Cases(brains")
    assert repr(case["image"]).startswith("Image(1 x 16 x 16 uint8")
    assert case["image"]._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(IndexError):
        cases[len(cases)]
    (volume,) = (rd.open("brains3d:count=1,size=16")[0]["image"],)
    assert "RAS" in repr(volume) and volume._repr_png_().startswith(b"\x89PNG")


def test_help_is_one_page_that_guides():
    page = pydoc.render_doc(rd, renderer=pydoc.plaintext)
    assert len(page.splitlines()) < 80 and "rd.open(" in page and "run.predict(" in page


def test_cases_that_were_opened_alone_are_scaled_as_in_training(finding, capsys):
    cases = rd.open(BRAINS, range=(0, 100)).take([0])
    alone = rd.open(BRAINS).take([0])
    one, other = (finding.predict(each, depth=0.2)[0] for each in (cases, alone))
    assert torch.equal(one["healthy"].data, other["healthy"].data)
    assert "scaled as in training, 0 to 255" in capsys.readouterr().err


def test_labels_of_other_codes_are_refused(finding):
    config = finding.run.config
    data = dataclasses.replace(config.data, codes=(0, 85, 170))
    config = dataclasses.replace(config, data=data)
    model = rd.Model(dataclasses.replace(finding.run, config=config))
    cases = dataclasses.replace(rd.open(BRAINS), codes=(0, 85))
    with pytest.raises(
        UserError, match=r"codes are \(0, 85\), and those of the training \(0, 85, 170\)"
    ):
        model.predict(cases, depth=0.2)


def test_an_evaluation_of_something_else_is_no_evaluation_of_the_training_data(finding):
    with pytest.raises(UserError, match="no tensor, number or text"):
        finding.evaluate(object())


def test_a_trajectory_shows_itself(drawing):
    """A row a case, noise on the left, the sample itself on the right."""
    found = drawing.trajectory(seed=3)
    last = torch.stack([image.data[0] for image in drawing.sample(6, seed=3)]).float() / 127.5 - 1
    assert (found[-1][:, 0].clamp(-1, 1) - last).abs().max() < 0.02
    assert repr(found) == f"Trajectory({len(found)} states of 6 x 1 x 16 x 16)"
    with Picture.open(io.BytesIO(found._repr_png_())) as picture:
        shown = np.asarray(picture)
    side = shown.shape[0] // 6
    assert shown[:side, :side].std() > 50, "noise"
    times = side // 16
    corner = shown[:side, -side:][::times, ::times, 0].astype(int)
    assert np.abs(corner - (last[0].numpy() + 1) * 127.5).max() < 4


def test_what_draws_nothing_has_no_trajectory(finding):
    with pytest.raises(UserError, match="anoddpm draws no images"):
        finding.trajectory()


def test_metrics_show_themselves_as_a_table():
    found = rd.Metrics(name="<b>x", method={"psnr": {"mean": 25.125, "ci95": [24, 26], "n": 9}})
    assert repr(found) == "Metrics(<b>x: psnr 25.1)" and found["method"]["psnr"]["n"] == 9
    shown = found._repr_html_()
    assert "<b>25.1</b>" in shown and 'class="interval"' in shown and "&lt;b&gt;x" in shown


def test_a_schedule_of_a_thousand_steps_has_a_short_repr(drawing):
    assert repr(drawing.denoiser.schedule) == "Discrete(1000 betas, 4.13e-05 to 0.999)"

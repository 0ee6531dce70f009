"""An audit on planted cases: copies are found in every disguise, members told apart, and nothing where nothing is."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from radiffuse import cli
from radiffuse.applications.generation.ddpm import DDPM
from radiffuse.applications.generation.privacy.attacks import membership, shadows
from radiffuse.applications.generation.privacy.attributes import attributes
from radiffuse.applications.generation.privacy.audit import Examined, audit
from radiffuse.applications.generation.privacy.memory import looked_at, memorisation
from radiffuse.applications.generation.privacy.people import People, as_one, without_repeats
from radiffuse.applications.generation.privacy.verdict import verdict
from radiffuse.commands.away import Away
from radiffuse.data.audited import Audit
from radiffuse.data.dataset import from_iterable
from radiffuse.data.records import read_record
from radiffuse.diffusion.denoiser import Denoiser
from radiffuse.diffusion.schedule import VP
from radiffuse.errors import UserError
from radiffuse.metrics import copy_detector, features
from radiffuse.metrics.cliques import cliques, medoid
from radiffuse.metrics.membership import found_at, likelihood_ratio, offline_ratio, told_apart
from radiffuse.metrics.nearness import near, share_of_copies
from radiffuse.training.checkpoint import newest
from radiffuse.training.options import TrainOptions

SIDE = 16


@pytest.fixture(scope="module", autouse=True)
def hasty():
    """Networks of an audit that train for a moment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "STEPS", 3)
        patch.setattr(copy_detector, "STEPS", 40)
        yield


def blobs(count, seed, axes=2):
    """Smooth images of three bright spots each, somewhere."""
    generator = torch.Generator().manual_seed(seed)
    grid = torch.stack(torch.meshgrid(*[torch.linspace(0, 1, SIDE)] * axes, indexing="ij"))
    shape = (count, 3, axes, *[1] * axes)
    centres = 0.15 + 0.7 * torch.rand(shape, generator=generator)
    widths = 0.06 + 0.1 * torch.rand((count, 3, *[1] * axes), generator=generator)
    spots = torch.exp(-((grid - centres) ** 2).sum(2) / (2 * widths**2)).sum(1)
    return (1.6 * spots.clamp(0, 1) - 0.9)[:, None]


def people(images, prefix, each=1, labels=None):
    names = tuple(f"{prefix}{row // each:03d}" for row in range(len(images)))
    ids = tuple(f"{name}-{row}" for row, name in enumerate(names))
    return People(images, labels, ids, names)


def opened(images, prefix, each=1):
    who = people(images, prefix, each)
    rows = zip(images, who.patients, who.ids, strict=True)
    return from_iterable(
        [{"image": x, "patient": p, "case": i, "split": "train"} for x, p, i in rows],
        range=(-1.0, 1.0),
    )


TRAIN, OTHERS, FRESH = blobs(120, 1), blobs(110, 2), blobs(40, 3)


def flipped(x):
    return x.flip(-1)


def brighter(x):
    return (0.85 * x + 0.12).clamp(-1, 1)


def noisy(x):
    return x + 0.05 * torch.randn(x.shape)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Networks that several tests share."""
    return tmp_path_factory.mktemp("networks")


def remembered(samples, cache=None, train=TRAIN, others=OTHERS):
    who = people(train, "t")
    eyes = looked_at(samples, who, people(others, "o"), "planted-data", cache)
    return memorisation(eyes, who)


# ------------------------------------------------------------------------------------------ copies
def test_new_images_are_no_copies(cache):
    found = remembered(FRESH, cache)["eyes"]
    assert all(eye["p"] > 0.01 and eye["beyond_chance"]["ci95"][0] == 0 for eye in found.values())


@pytest.mark.parametrize("disguise", [noisy, brighter, flipped])
def test_copies_are_found_in_every_disguise(disguise, cache):
    samples = torch.cat([FRESH[:20], disguise(TRAIN[:20])])
    found = remembered(samples, cache)["eyes"]["detector"]
    assert found["p"] < 1e-6
    low, high = found["beyond_chance"]["ci95"]
    assert low < 0.5 < high + 0.25


def test_grey_values_alone_miss_a_flipped_copy(cache):
    assert remembered(flipped(TRAIN[:20]), cache)["eyes"]["pixels"]["p"] > 0.01


def test_blurred_images_lie_near_everything_and_are_no_copies():
    train, others = torch.randn(200, 1, 8, 8), torch.randn(200, 1, 8, 8)
    blurred, groups = 0.2 * torch.randn(50, 1, 8, 8), torch.arange(200)
    found, control = near(blurred, train, groups), near(others, train, groups)
    assert bool((found.distance < control.distance.min()).all())
    assert not share_of_copies(found.relative, control.relative).flagged.any()


def test_a_person_with_thirty_images_is_found_and_named():
    train = torch.cat([noisy(TRAIN[:1].expand(30, -1, -1, -1)) for _ in range(1)] + [TRAIN[1:60]])
    names = ("dup",) * 30 + tuple(f"t{row:03d}" for row in range(59))
    who = People(train, None, tuple(f"{n}-{k}" for k, n in enumerate(names)), names)
    samples = torch.cat([FRESH[:20], noisy(TRAIN[:1].expand(10, -1, -1, -1))])
    eyes = looked_at(samples, who, people(OTHERS, "o"), "planted-data", None)
    found = memorisation(eyes, who)
    assert found["eyes"]["pixels"]["p"] < 1e-6
    assert found["people"][0] == {"patient": "dup", "samples": 10}


def thirty_names(first=TRAIN[:1]):
    """Sixty images of as many people, of which one image stands there under thirty names more."""
    return people(torch.cat([TRAIN[:60], first.expand(30, -1, -1, -1)]), "t")


def test_an_image_under_thirty_names_is_one_person_and_its_copies_are_found(tmp_path):
    who = thirty_names()
    cases = from_iterable(
        [
            {"image": x, "patient": p, "split": "train"}
            for x, p in zip(who.images, who.patients, strict=True)
        ],
        range=(-1.0, 1.0),
    )
    of = Examined(
        None, None, noisy(TRAIN[:1].expand(30, -1, -1, -1)), None, cases, opened(OTHERS, "o")
    )
    found = audit(of, tmp_path)
    assert found["train"] == {"images": 90, "people": 60}
    assert found["memorisation"]["eyes"]["pixels"]["p"] < 1e-6
    assert found["memorisation"]["people"] == [{"patient": "t000", "samples": 30}]
    assert found["notices"][0].startswith("30 training people have an image that is another's too")


def test_blank_images_make_nobody_one_person():
    blank = torch.full((2, 1, SIDE, SIDE), -1.0)
    who = People(torch.cat([blank, TRAIN[:2]]), None, tuple("abcd"), ("x", "y", "x", "y"))
    assert as_one(who) == (who, 0)


def test_people_are_one_through_others_whose_images_they_share():
    chain = People(TRAIN[[0, 1, 1, 2, 2, 3]], None, tuple("abcdef"), ("x", "x", "y", "y", "z", "w"))
    assert as_one(chain)[0].patients == ("x", "x", "x", "x", "x", "w")


def test_images_that_differ_by_rounding_are_one_and_others_are_not():
    near = TRAIN[:2] + 5e-4 * torch.randn(2, 1, SIDE, SIDE)
    far = TRAIN[2:4] + 1.6e-3 * torch.randn(2, 1, SIDE, SIDE)
    who = people(torch.cat([TRAIN[:60], near, far]), "t")
    joined, count = as_one(who)
    assert count == 2 and joined.patients[60:] == ("t000", "t001", "t062", "t063")


def test_all_of_a_held_out_person_who_has_a_training_image_is_left_out():
    mixed = People(
        torch.cat([TRAIN[:1], OTHERS[:2]]), None, tuple("abc"), ("again", "again", "new")
    )
    kept, lost = without_repeats(mixed, people(TRAIN, "t"))
    assert kept.ids == ("c",) and lost == 2


def test_volumes_are_compared_as_pictures_are(monkeypatch):
    monkeypatch.setattr(copy_detector, "STEPS", 4)
    train, others = blobs(24, 4, 3), blobs(24, 5, 3)
    samples = torch.cat([blobs(4, 6, 3), noisy(train[:12])])
    assert remembered(samples, None, train, others)["eyes"]["pixels"]["p"] < 1e-4


def test_chance_flags_as_many_as_it_says():
    torch.manual_seed(1)
    control = torch.rand(400, 99)
    shares = [share_of_copies(torch.rand(200), row) for row in control]
    assert shares[0].chance == 0.01
    assert np.mean([each.share["mean"] for each in shares]) == pytest.approx(0.01, abs=0.002)
    assert np.mean([each.p < 0.05 for each in shares]) < 0.08
    assert np.mean([each.beyond_chance["ci95"][0] > 0 for each in shares]) < 0.025


def test_a_share_needs_twenty_held_out_images(cache):
    assert share_of_copies(torch.rand(50), torch.rand(19)) is None
    found = remembered(FRESH, cache, others=OTHERS[:12])
    assert "there are 12" in found["eyes"]["pixels"]["share"]["refused"]


def test_held_out_images_that_are_training_images_are_left_out():
    mixed = People(
        torch.cat([TRAIN[:3], OTHERS[:5]]),
        None,
        tuple("abcdefgh"),
        ("x", "y", "z", "t004", *"1234"),
    )
    kept, lost = without_repeats(mixed, people(TRAIN, "t"))
    assert kept.ids == ("e", "f", "g", "h") and lost == 4


# -------------------------------------------------------------------------------------- membership
def area(scores, member):
    from sklearn.metrics import roc_auc_score

    return roc_auc_score(member, scores)


def test_members_found_are_above_what_one_of_a_hundred_others_exceeds():
    assert found_at(torch.tensor([5.0, 1.0]), torch.arange(100) / 100) == 1.0
    assert found_at(torch.tensor([0.5, 0.985]), torch.arange(100) / 100) == 0.5


def test_intervals_draw_people_and_not_images():
    one = torch.randn(40) + 1
    names = tuple([f"{kind}{k}" for k in range(40)] for kind in "pq")
    alone = told_apart(one, torch.randn(40), names)["auc"]["ci95"]
    torch.manual_seed(0)
    one = torch.randn(40) + 1
    many = tuple([name for name in each for _ in range(10)] for each in names)
    wide = told_apart(one.repeat_interleave(10), torch.randn(40).repeat_interleave(10), many)
    low, high = wide["auc"]["ci95"]
    assert high - low > 0.6 * (alone[1] - alone[0])


def test_ratios_see_members_where_images_differ_more_than_membership():
    """Scores of hard and easy images lie far apart: only what each image is used to tells."""
    torch.manual_seed(0)
    hard = 10 * torch.randn(200)
    inside = torch.rand(8, 200) < 0.5
    inside[0], inside[1] = True, False
    shadows = hard + inside.float() + 0.4 * torch.randn(8, 200)
    member = torch.arange(200) < 100
    observed = hard + member.float() + 0.4 * torch.randn(200)
    assert area(observed, member) < 0.7
    for ratio in (likelihood_ratio, offline_ratio):
        found = ratio(observed, shadows, inside)
        assert area(found, member) > 0.85


class Knows(Denoiser):
    """E[x_0 given x_t] of a distribution of a few images: what a model that learned by heart computes."""

    def __init__(self, images):
        super().__init__()
        self.images, self.schedule = images, VP()

    def forward(self, x_t, t):
        alpha, sigma = self.schedule(t, x_t)
        gaps = (x_t[:, None] - alpha * self.images[None]).flatten(2).square().sum(2)
        return torch.einsum("bn,nchw->bchw", torch.softmax(-gaps / (2 * sigma**2), 1), self.images)


@dataclasses.dataclass(frozen=True)
class ByHeart:
    """A recipe that knows its images, or one image of each class where it is told."""

    images: torch.Tensor
    labels: torch.Tensor | None = None
    classes: int = 0

    def denoiser(self, objective, label=None):
        if label is None:
            return Knows(self.images)
        return Knows(self.images[self.labels == int(label[0])])


class NoPlayers:
    players = {"network": torch.nn.Linear(1, 1)}  # noqa: RUF012


def test_members_of_a_model_that_learned_by_heart_are_told_apart():
    found = membership(
        ByHeart(TRAIN[:30]), NoPlayers(), people(TRAIN[:30], "t"), people(OTHERS, "o")
    )
    assert found["loss"]["auc"]["mean"] > 0.99 and found["loss"]["found"]["mean"] > 0.9


def test_strangers_are_not_told_from_strangers():
    found = membership(
        ByHeart(TRAIN[:30]), NoPlayers(), people(OTHERS[:55], "a"), people(OTHERS[55:], "o")
    )
    low, high = found["loss"]["auc"]["ci95"]
    assert low < 0.5 < high
    assert "refused" in found["loss"]["found"]


def test_labels_of_members_leak_from_a_model_that_learned_by_heart():
    labels = torch.arange(40) % 2
    recipe = ByHeart(TRAIN[:40], labels, 2)
    members = people(TRAIN[:40], "t", labels=labels)
    others = people(OTHERS[:40], "o", labels=labels)
    found = attributes(recipe, NoPlayers(), members, others, TRAIN[:40], labels)
    assert found["loss"]["members"]["mean"] == 1 and found["neighbours"]["members"]["mean"] == 1
    assert found["loss"]["advantage"]["ci95"][0] > 0.2
    assert "refused" in attributes(ByHeart(TRAIN), NoPlayers(), members, others, TRAIN, None)


# -------------------------------------------------------------------------------------- extraction
def test_images_drawn_again_and_again_are_found():
    samples = torch.cat(
        [
            FRESH[:30],
            noisy(TRAIN[7:8].expand(6, -1, -1, -1)),
            noisy(TRAIN[3:4].expand(3, -1, -1, -1)),
        ]
    )
    found = cliques(samples, 0.1)
    assert [sorted(rows.tolist()) for rows in found] == [list(range(30, 36)), [36, 37, 38]]
    assert medoid(torch.tensor([[0.0], [1.0], [5.0]])) == 1


def test_a_chain_of_near_images_is_no_clique():
    chain = torch.linspace(0, 1, 11)[:, None]
    assert all(len(rows) == 3 for rows in cliques(chain, 0.21))


# ----------------------------------------------------------------------------------------- verdict
def test_the_whole_audit_of_a_model_that_copies(tmp_path):
    samples = torch.cat([noisy(TRAIN[k % 4 : k % 4 + 1]) for k in range(40)])
    train, others = opened(TRAIN, "t"), opened(OTHERS, "o")
    recipe = ByHeart(TRAIN)
    found = audit(Examined(recipe, NoPlayers(), samples, None, train, others), tmp_path, cases=60)
    said = found["verdict"]
    assert said[0].startswith("copies found: 40 of 40 samples")
    assert said[1].startswith("the people copied most: t00")
    assert "4 images were drawn three times or more, one 10 times" in said[2]
    assert said[2].endswith("4 of them are training images")
    assert said[3].startswith("members can be told from others")
    assert (tmp_path / "copies.png").is_file()


def test_the_verdict_on_a_model_that_does_not(tmp_path):
    train, others = opened(TRAIN, "t"), opened(OTHERS, "o")
    found = audit(
        Examined(ByHeart(FRESH), NoPlayers(), FRESH, None, train, others), tmp_path, cases=60
    )
    assert found["verdict"][0].startswith("no copies found among 40 samples; a share above ")
    assert found["verdict"][-2].startswith("members cannot be told from others")


def test_without_training_data_the_rest_is_measured(tmp_path):
    samples = torch.cat([FRESH[:20], noisy(TRAIN[:1].expand(5, -1, -1, -1))])
    found = audit(Examined(None, NoPlayers(), samples, None, None, opened(OTHERS, "o")), tmp_path)
    assert found["verdict"][0] == "copies: not measured, the training data are not at hand"
    assert "1 images were drawn three times" in found["verdict"][1]
    assert verdict(found) == found["verdict"]


# ----------------------------------------------------------------------------------- command line
@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that has hardly learned, and its data: 40 people to train on, 30 held out."""
    folder = tmp_path_factory.mktemp("audited")
    images = (127.5 * (blobs(70, 8)[:, 0].numpy() + 1)).clip(0, 255).astype(np.uint8)
    np.savez(
        folder / "data.npz",
        image=images,
        split=np.array(["train"] * 40 + ["test"] * 30),
        patient=np.array([f"p{k:02d}" for k in range(70)]),
    )
    words = ["--data", str(folder / "data.npz"), "--preset", "tiny", "--train.steps", "2"]
    assert cli.main(["train", "ddpm", *words, "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_the_command_writes_a_record_and_a_page(run, tmp_path, capsys):
    out = tmp_path / "audit"
    words = ["--count", "12", "--steps", "2", "--shadows", "2", "--cases", "20"]
    assert cli.main(["audit", str(run), "--out", str(out), *words]) == 0
    record = read_record(out / "audit.json", Audit)
    assert record["membership"]["shadows"] == 2 and "online" in record["membership"]
    assert record["train"] == {"images": 40, "people": 40} and record["held_out"]["people"] == 30
    page = (out / "audit.html").read_text()
    assert all(line.split(":")[0] in page for line in record["verdict"])
    assert "data:image/png;base64," in page
    assert record["verdict"][0] in capsys.readouterr().out


def test_samples_drawn_before_are_looked_at(run, tmp_path, refused):
    drawn = tmp_path / "drawn"
    assert cli.main(["sample", str(run), "--count", "5", "--steps", "2", "--out", str(drawn)]) == 0
    assert cli.main(["audit", str(run), "--images", str(drawn), "--out", str(tmp_path / "a")]) == 0
    assert json.loads((tmp_path / "a" / "audit.json").read_text())["samples"] == 5
    told = json.loads((drawn / "predictions.json").read_text())
    told["settings"]["model_sha256"] = "0"
    (drawn / "predictions.json").write_text(json.dumps(told))
    line = refused("audit", run, "--images", drawn, "--out", tmp_path / "b")
    assert "another model" in line


def test_shadows_that_were_cut_go_on_and_those_of_others_are_refused(tmp_path):
    parts = tuple(opened(blobs(12, seed), name) for seed, name in ((1, "a"), (2, "b")))
    recipe = DDPM.tiny().fitted(parts[0].facts())
    cut, whole = (TrainOptions(steps=steps, batch=4, ema=(0.0,)) for steps in (2, 4))
    shadows(recipe, parts, cut, 2, tmp_path / "s")
    shadows(recipe, parts, whole, 2, tmp_path / "s")
    assert [newest(tmp_path / "s" / each).name for each in ("00", "01")] == ["step-00000004"] * 2
    with pytest.raises(UserError, match="other"):
        shadows(recipe, parts, whole, 2, tmp_path / "s", seed=1)


def test_shadows_keep_people_who_share_an_image_together(tmp_path):
    first, second = blobs(12, 1), blobs(12, 2)
    first[6:] = second[:6]
    parts = opened(first, "a"), opened(second, "b")
    recipe = DDPM.tiny().fitted(parts[0].facts())
    made = shadows(recipe, parts, TrainOptions(steps=1, batch=2, ema=(0.0,)), 2, tmp_path / "s")
    for k in range(6):
        assert all((f"a{6 + k:03d}" in one.inside) == (f"b{k:03d}" in one.inside) for one in made)


def test_shadows_are_halves(run, tmp_path, refused):
    assert "even number" in refused("audit", run, "--shadows", "3", "--out", tmp_path / "a", code=2)


# -------------------------------------------------------------------------------- away from copies
def test_samples_too_near_are_drawn_again():
    away = Away(0.6, TRAIN, torch.arange(len(TRAIN)), "f")
    entries = [{"case": f"sample-{k}", "seed": k} for k in range(6)]
    first = set(range(3))
    far = FRESH[int(near(FRESH, TRAIN, away.groups).relative.argmax())]

    def draw(asked):
        return {"image": torch.stack([TRAIN[0] if e["seed"] in first else far for e in asked])}

    made = away(draw, entries)["image"]
    assert float(near(made, TRAIN, away.groups).relative.min()) > 0.6
    assert [entry.get("redrawn", 0) for entry in entries] == [1, 1, 1, 0, 0, 0]
    assert away.told.startswith("3 of 9 draws")


def test_a_model_that_only_copies_is_refused():
    away = Away(0.6, TRAIN, torch.arange(len(TRAIN)), "f")
    with pytest.raises(UserError, match="20 draws in turn"):
        away(lambda asked: {"image": TRAIN[: len(asked)]}, [{"case": "sample-0", "seed": 0}])


def test_sample_keeps_away_and_says_so(run, tmp_path, capsys, refused):
    out = tmp_path / "drawn"
    words = ["sample", str(run), "--count", "3", "--steps", "2", "--out", str(out)]
    assert cli.main([*words, "--away", "0.1"]) == 0
    assert "0 of 3 draws lay too near" in capsys.readouterr().err
    assert json.loads((out / "predictions.json").read_text())["settings"]["away"] == 0.1
    assert "between 0 and 1" in refused(*words[:-1], tmp_path / "b", "--away", "2", code=2)


def test_sample_counts_an_image_under_many_names_once(run, tmp_path, capsys):
    images = np.concatenate([255 * np.random.default_rng(0).random((6, 1, 16, 16))] * 2)
    np.savez(tmp_path / "twice.npz", image=images.astype(np.uint8))
    words = ["sample", str(run), "--count", "1", "--steps", "2", "--out", str(tmp_path / "a")]
    assert cli.main([*words, "--away", "0.01", "--away-from", str(tmp_path / "twice.npz")]) == 0
    assert "6 people have an image that is another's too" in capsys.readouterr().err


def test_a_copy_detector_that_is_damaged_is_one_line(tmp_path):
    def detector():
        groups = torch.arange(8)
        known = {"fingerprint": "a" * 12, "steps": 1, "cache": tmp_path}
        return copy_detector.copy_detector(blobs(8, 0), groups, **known)

    detector()
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="delete it"):
        detector()

"""Proteins: files in and out, motifs, the equivariant network, the method by the command line, and measures."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from radiffuse import cli
from radiffuse.applications.other.proteins import measures
from radiffuse.applications.other.proteins.baselines import random_chains
from radiffuse.applications.other.proteins.chains import chains, whole
from radiffuse.applications.other.proteins.motif import find_motif, numbered_from_one
from radiffuse.applications.other.proteins.sampling import drawn_length
from radiffuse.applications.other.smcdiff import SMCDiff
from radiffuse.data.dataset import open_cases
from radiffuse.data.embedded.backbones import traced
from radiffuse.data.formats.proteins import coded, decoded, write_backbone
from radiffuse.errors import UserError
from radiffuse.inverse import shared_path
from radiffuse.nn.egnn import EGNN
from radiffuse.testing import check_recipe

SMALL = "backbones:count=12,shortest=14,longest=18"
SHORT = ("--shortest", "12", "--longest", "18")


@pytest.fixture(scope="module")
def cases():
    return open_cases(SMALL)


def helix(count=30, hand=1):
    angles = torch.full((count,), 1.0)
    return traced(1.588 * angles[2:], hand * 0.873 * angles[3:]).double().numpy()


# ------------------------------------------------------------------------------------------ files
LINE = "ATOM  {:5d}  {:<3s}{:1s}{:3s} {:1s}{:4d}{:1s}   {:8.3f}{:8.3f}{:8.3f}  {:4.2f}  0.00           C"


def atom(
    number, name="CA", x=0.0, chain="A", alternate=" ", insertion=" ", share=1.0, residue="ALA"
):
    place = (3.8 * number if x == 0.0 else x, 0.0, 0.0)
    return LINE.format(1, name, alternate, residue, chain, number, insertion, *place, share)


def pdb(path, *lines):
    path.write_text("\n".join([*lines, "END"]) + "\n")
    return path


def test_a_chain_is_read_with_its_names(tmp_path):
    file = pdb(tmp_path / "a.pdb", *(atom(n, chain="B") for n in (7, 8, 9)))
    cases = open_cases(file)
    batch = cases.batch([0])
    assert cases.notices == () and batch["length"].tolist() == [3]
    assert batch["coords"][0, :, 1, 0].tolist() == pytest.approx([26.6, 30.4, 34.2])
    assert batch["residues"][0].tolist() == [[coded("B"), n, 0] for n in (7, 8, 9)]


@pytest.mark.parametrize("ending", [".pdb", ".cif"])
def test_what_is_written_is_read_back(tmp_path, ending):
    chain = torch.from_numpy(helix(12)).float()
    write_backbone(tmp_path / f"a{ending}", chain, torch.ones(12))
    read = open_cases(tmp_path / f"a{ending}").batch([0])
    assert torch.allclose(read["coords"][0, :, 1], chain, atol=1e-3)
    assert read["residues"][0, :, 1].tolist() == list(range(1, 13))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([atom(1), atom(2, chain="B")], "holds 2 chains (A, B), which make one case"),
        ([atom(1), atom(1, insertion="C")], "1 residues have insertion codes (A1C)"),
        ([atom(1), atom(2, "N")], "1 residues have no C-alpha (A2)"),
        (
            ["MODEL        1", atom(1), "ENDMDL", "MODEL        2", atom(1), "ENDMDL"],
            "holds 2 models",
        ),
    ],
)
def test_what_a_file_holds_beside_a_chain_is_said(tmp_path, lines, said):
    cases = open_cases(pdb(tmp_path / "a.pdb", *lines))
    assert len(cases.notices) == 1 and said in cases.notices[0]


def test_of_alternate_places_the_likelier_is_taken_and_said(tmp_path):
    both = [atom(1, x=1.0, alternate="A", share=0.3), atom(1, x=2.0, alternate="B", share=0.7)]
    cases = open_cases(pdb(tmp_path / "a.pdb", *both))
    assert float(cases.batch([0])["coords"][0, 0, 1, 0]) == 2.0
    assert "2 atoms have alternate locations" in cases.notices[0]


def test_calcium_is_no_carbon_and_selenomethionine_is_a_residue(tmp_path):
    calcium = atom(3, residue=" CA").replace("ATOM  ", "HETATM")
    selenium = atom(2, residue="MSE").replace("ATOM  ", "HETATM")
    file = pdb(tmp_path / "a.pdb", atom(1), selenium, calcium)
    assert open_cases(file).batch([0])["length"].tolist() == [2]


@pytest.mark.parametrize("text", ["", "ATOM  x", "nothing\n", atom(1, "CB"), atom(1)[:40]])
def test_a_damaged_file_is_refused_in_a_line(tmp_path, text):
    (tmp_path / "a.pdb").write_text(text)
    with pytest.raises(UserError, match=r"a\.pdb: (is damaged|holds no backbone)"):
        open_cases(tmp_path / "a.pdb")


def test_a_name_is_a_number_and_back():
    assert coded("") == 0 and [decoded(coded(name)) for name in ("", "A", "AB2")] == [
        "",
        "A",
        "AB2",
    ]


# ----------------------------------------------------------------------------------------- motifs
def found(text, residues=None, there=None, **more):
    residues = numbered_from_one(20) if residues is None else residues
    there = torch.ones(len(residues), dtype=torch.bool) if there is None else there
    return find_motif(text, residues, there, **more)


def test_a_motif_lies_where_it_lay():
    motif = found("A3-5,A9-10")
    assert motif.rows == motif.places == (2, 3, 4, 8, 9) and motif.length == 20
    assert found("3-5", length=30, before=7).places == (7, 8, 9)


def test_a_motif_of_another_chain_and_inserted_residues():
    names = [("A", 1, ""), ("B", 1, ""), ("B", 2, ""), ("B", 2, "A"), ("B", 3, "")]
    residues = torch.tensor([[coded(c), n, coded(i)] for c, n, i in names])
    motif = found("B2-3", residues)
    assert motif.rows == (2, 3, 4) and motif.places == (1, 2, 3) and motif.length == 4
    assert found("B2A-3", residues).rows == (3, 4)
    with pytest.raises(UserError, match="which chain of A, B"):
        found("2-3", residues)


LOST = torch.tensor([True] * 3 + [False] + [True] * 16)


@pytest.mark.parametrize(
    ("text", "more", "said"),
    [
        ("B3-5", {}, "there is no chain B; there is A"),
        ("A18-25", {}, "residue 25 is not in the file; chain A holds 1 to 20"),
        ("A5-3", {}, "its first residue comes after its last"),
        ("A5-8,A3-4", {}, "its segments must come one after another"),
        ("A3-5", {"there": LOST}, "1 of its residues have no C-alpha: 4"),
        ("A1-12", {"length": 10}, "do not fit into a scaffold of 10"),
        ("A1-5", {"before": 18}, "18 residues before it and 5 of it do not fit"),
        ("A1-5,B7-9", {}, "its residues must be of one chain"),
        ("helix", {}, "a motif is CHAIN, first and last residue, as A10-25"),
        (
            "A3-5",
            {"residues": numbered_from_one(20)[[0, 1, 2, 4, 5]]},
            "lacks 1 of its residues: 4",
        ),
    ],
)
def test_a_motif_that_is_not_there_is_refused(text, more, said):
    with pytest.raises(UserError, match=said):
        found(text, **more)


# ---------------------------------------------------------------------------------------- network
@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = EGNN(16, 2, longest=18).eval()
    for parameter in network.requires_grad_(False).parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network


CLOCK = torch.tensor([0.3, 0.8])


@pytest.mark.parametrize("hand", [1, -1])
def test_turned_mirrored_and_shifted_points_move_alike(network, hand):
    turn, _ = torch.linalg.qr(torch.randn(3, 3))
    turn = turn * (hand * torch.linalg.det(turn).sign())
    x = torch.randn(2, 12, 3)
    moved = network(x, CLOCK)
    assert float(moved.abs().max()) > 0.01
    assert torch.allclose(network(x @ turn + 3, CLOCK), moved @ turn, atol=1e-4)


def test_what_lies_beyond_a_chain_changes_nothing(network):
    x, mask = torch.randn(2, 12, 3), torch.ones(2, 12)
    mask[1, 9:] = 0
    moved = network(x, CLOCK, mask)
    assert torch.allclose(moved[1:, :9], network(x[1:, :9], CLOCK[1:]), atol=1e-5)
    assert not moved[1, 9:].any()


def test_the_network_knows_the_order_and_the_time(network):
    x = torch.randn(1, 12, 3)
    moved = network(x, CLOCK[:1])
    assert not torch.allclose(network(x.flip(1), CLOCK[:1]).flip(1), moved, atol=1e-4)
    assert not torch.allclose(network(x, CLOCK[1:]), moved, atol=1e-4)
    assert torch.equal(EGNN(16).turn, EGNN(16).turn)
    assert torch.allclose(EGNN(16).turn @ EGNN(16).turn.T, torch.eye(16), atol=1e-5)


def test_the_network_reads_distances(network):
    """With features and offsets alike, what residues hear differs by distances alone."""
    x, rows = torch.randn(1, 12, 3), torch.zeros(12, 12, dtype=torch.long)
    layer, h = network.layers[0], torch.zeros(1, 12, 16)
    heard, _ = layer(h, x, torch.zeros(1, 16), rows, torch.ones(1, 12))
    assert not torch.allclose(heard[0, 0], heard[0, 1], atol=1e-4)
    alike, _ = layer(h, 0 * x, torch.zeros(1, 16), rows, torch.ones(1, 12))
    assert torch.allclose(alike[0, 0], alike[0, 1], atol=1e-6)


def test_the_network_reads_the_offset_along_the_chain(network):
    """Equal features at equal distances: messages differ by the offset alone."""
    h, offsets = torch.zeros(1, 12, 16), torch.randn(23, 16)
    place = torch.arange(12)
    messages = network.layers[0]._messages(
        h, torch.ones(1, 12, 12, 1), offsets, place[:, None] - place + 11
    )
    assert torch.allclose(messages[0, 2, 5], messages[0, 4, 7])
    assert not torch.allclose(messages[0, 2, 5], messages[0, 5, 2], atol=1e-4)


# ----------------------------------------------------------------------------------------- recipe
def test_the_betas_of_the_paper():
    betas = SMCDiff().schedule().betas
    assert len(betas) == 1024 and betas[[0, -1]].tolist() == pytest.approx([1e-4, 0.02])
    shorter = SMCDiff(timesteps=256, steps=256).schedule()
    assert float(shorter.alpha(torch.tensor(1.0)) ** 2) == pytest.approx(3.17e-5, rel=0.25)


def test_small_learns_the_levels_where_bonds_are_decided():
    """A bond of 3.8 Angstrom asks for noise of a few tenths; even steps spend 3 % of the training there."""
    torch.manual_seed(0)
    shares = {}
    for name, recipe in (("paper", SMCDiff()), ("small", SMCDiff.small())):
        objective = dataclasses.replace(recipe, lengths=(40, 128), width=8).objective()
        t = objective.times(4000)
        schedule = objective.network.schedule
        shares[name] = float((schedule.sigma(t) / schedule.alpha(t) < 0.1).double().mean())
    assert shares["paper"] < 0.05 < 0.2 < shares["small"]


def test_conformance(cases):
    class Short(SMCDiff):
        @classmethod
        def tiny(cls):
            return dataclasses.replace(cls(**dataclasses.asdict(SMCDiff.tiny())), steps=4)

    check_recipe(Short, cases.facts(), cases.batch(range(3)))


def test_chains_are_centred_in_nanometres_and_padded(cases):
    batch = cases.batch([0, 1])
    x, mask = chains({**batch, "coords": batch["coords"] + 50})
    assert x.shape[1] == int(mask.sum(1).max()) and not (x * (1 - mask[..., None])).any()
    assert float(x.sum(1).abs().max()) < 1e-4
    steps = (x[0, 1:] - x[0, :-1]).norm(dim=1)[: int(mask[0].sum()) - 1]
    assert torch.allclose(steps, torch.tensor(0.38), atol=1e-4)


def test_the_loss_is_a_mean_over_residues(cases):
    """A network that answers 0 has the mean of z^2: 1, however many residues are padding."""
    recipe = SMCDiff(width=8, layers=1).fitted(cases.facts())
    objective, batch = recipe.objective(), cases.batch(range(12))
    padded = {
        "coords": torch.nn.functional.pad(batch["coords"], (0, 0, 0, 40)),
        "length": batch["length"],
    }
    padded["coords"] = torch.cat([padded["coords"], torch.full((1, 58, 3), 1.0)])
    padded["length"] = torch.cat([batch["length"], torch.tensor([58.0])])
    torch.nn.init.zeros_(objective.network.backbone.layers[0].pull[-1].weight)
    torch.manual_seed(0)
    losses = [float(next(objective.losses(padded))[1].detach()) for _ in range(6)]
    assert np.mean(losses) == pytest.approx(1.0, abs=0.06)


def test_what_is_learned_from_is_one_whole_chain_of_a_fit_length():
    coords, residues = torch.zeros(4, 50, 3), torch.zeros(4, 50, 3, dtype=torch.long)
    coords[1, 7] = torch.nan
    residues[2, 30:, 0] = 5
    batch = {
        "coords": coords,
        "residues": residues,
        "length": torch.tensor([50.0, 50.0, 50.0, 39.0]),
    }
    assert whole(batch).tolist() == [True, False, False, True]
    assert SMCDiff().suitable(batch).tolist() == [True, False, False, False]


def test_lengths_are_those_of_training(cases):
    recipe = SMCDiff(shortest=12).fitted(cases.facts())
    assert recipe.lengths[0] == 14 and recipe.lengths[-1] == 18
    drawn = [drawn_length(recipe.lengths, seed) for seed in range(40)]
    assert min(drawn) == 14 and max(drawn) == 18


def test_the_conditioning_is_what_is_named(cases):
    tiny, y = SMCDiff.tiny(), torch.zeros(1, 5, 3)
    kinds = {}
    for how in ("smcdiff", "replacement", "fixed"):
        recipe = dataclasses.replace(tiny, conditioning=how)
        denoiser = recipe.objective().network
        kinds[how] = recipe.make_sampler(denoiser, y, y, lambda like: like)
    assert type(kinds["smcdiff"]) is shared_path.SMCDiff and kinds["smcdiff"].trigger == 0.75
    assert not kinds["replacement"].fixed and kinds["fixed"].fixed


def test_a_scaffold_holds_its_motif(cases):
    """An untrained network lets the last step's motif be: it comes out where it was put."""
    recipe = dataclasses.replace(SMCDiff.tiny(), motif="4-9", length=16, before=5).fitted(
        cases.facts()
    )
    batch = cases.batch([0])
    made = recipe.predict(recipe.objective(), {**batch, "seed": torch.tensor([3])})
    given = made["motif"][0] > 0
    assert given.nonzero()[:, 0].tolist() == list(range(5, 11)) and int(made["length"]) == 16
    motif = batch["coords"][0, 3:9].double().numpy()
    assert measures.rmsd(made["coords"][0][given].double().detach().numpy(), motif) < 1.5


# --------------------------------------------------------------------------------------- commands
@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    words = ["--preset", "tiny", "--steps", "3", "--train.steps", "3", *SHORT]
    assert cli.main(["train", "smcdiff", "--data", SMALL, *words, "--out", str(out)]) == 0
    return out


def test_samples_are_pdb_files_with_a_sheet(run, tmp_path):
    out = tmp_path / "backbones"
    words = ["sample", str(run), "--count", "3", "--set", "length=15", "--out", str(out)]
    assert cli.main(words) == 0
    read = open_cases(out / "sample-00002.pdb").batch([0])
    assert read["length"].tolist() == [15] and (out / "sheet.png").is_file()
    assert sorted(path.name for path in out.glob("*.pdb")) == [
        f"sample-0000{k}.pdb" for k in range(3)
    ]
    assert cli.main(words) == 0  # all there: nothing is drawn again
    assert cli.main(["report", str(out)]) == 0


@pytest.mark.parametrize("ending", [".pdb", ".cif"])
def test_a_motif_of_a_file_is_scaffolded(run, tmp_path, ending):
    write_backbone(tmp_path / f"in{ending}", torch.from_numpy(helix(20)).float())
    words = ["predict", str(run), "--data", str(tmp_path / f"in{ending}")]
    words += ["--set", "motif=A6-11", "length=17", "particles=2", "--samples", "2"]
    assert cli.main([*words, "--out", str(tmp_path / "out")]) == 0
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())["predictions"]
    assert [entry["files"]["coords"] for entry in entries] == [
        f"in-0{k}-coords{ending}" for k in range(2)
    ]
    assert entries[0]["values"] == {"length": 17}


def test_a_scaffold_without_a_motif_is_refused(cases):
    recipe = dataclasses.replace(SMCDiff.tiny(), motif="").fitted(cases.facts())
    with pytest.raises(UserError, match="--set motif=A10-25; `radiffuse sample` makes"):
        recipe.predict(recipe.objective(), cases.batch([0]))


def test_chains_that_do_not_fit_are_left_out_and_said(tmp_path, capsys, refused):
    words = ["train", "smcdiff", "--preset", "tiny", "--train.steps", "1", "--data", SMALL]
    assert cli.main([*words, "--shortest", "16", "--out", str(tmp_path / "run")]) == 0
    assert "): the method learns single chains" in capsys.readouterr().err
    said = refused(*words, "--shortest", "30", "--out", tmp_path / "other")
    assert "7 of 7 training cases are left out" in said


def test_scaffolds_longer_than_was_trained_are_refused(cases):
    long = {"coords": torch.zeros(1, 90, 3), "seed": torch.tensor([1])}
    recipe = SMCDiff(motif="5-9", longest=80).fitted(cases.facts())
    with pytest.raises(
        UserError, match="its chain has 90 residues, and the network was trained on up to 80"
    ):
        recipe.predict(recipe.objective(), long)
    with pytest.raises(
        UserError, match="--length must be at most the longest chain trained on, 80"
    ):
        dataclasses.replace(recipe, length=81)


def test_views_of_coordinates_are_refused(tmp_path, refused):
    words = ("train", "smcdiff", "--data", SMALL, "--out", tmp_path / "run", *SHORT)
    said = refused(*words, "--train.mirror", "0", code=2)
    assert "--train.mirror: views are of images, and backbones:" in said


def test_evaluation_measures_chains_and_scaffolds(run, capsys):
    assert cli.main(["evaluate", str(run), "--count", "2", "--set", "particles=2"]) == 0
    record = json.loads((run / "metrics.json").read_text())
    assert {"bond_error", "helix", "tm_to_training", "motif_rmsd"} <= record["method"].keys()
    beside = {"random chains", "replacement", "fixed", "unconditional + alignment"}
    assert (
        beside <= record["baselines"].keys()
        and record["baseline"] == record["baselines"]["replacement"]
    )
    assert record["reference"]["bond_error"]["mean"] < 1e-3
    assert record["method"]["bond_error"]["mean"] > record["reference"]["bond_error"]["mean"]
    assert cli.main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "C-alpha traces" in page and "no Ramachandran plot" in page


def test_without_the_packages_one_line_says_what_to_install(tmp_path, monkeypatch):
    pdb(tmp_path / "a.pdb", atom(1))
    monkeypatch.setitem(__import__("sys").modules, "biotite.structure.io", None)
    with pytest.raises(UserError, match=r"pip install 'radiffuse\[proteins\]'"):
        open_cases(tmp_path / "a.pdb")


# --------------------------------------------------------------------------------------- measures
def test_a_helix_is_one_and_its_mirror_image_is_not():
    right, left = helix(), helix(hand=-1)
    assert measures.twists(right).mean() == pytest.approx(50, abs=0.1)
    assert measures.bends(right).mean() == pytest.approx(91, abs=0.1)
    assert measures.secondary(right)[0] > 0.9  # by distances, so that the other hand is one too
    assert measures.left_handed(right) == 0 and measures.left_handed(left) == 1


def test_a_strand_is_one():
    angles = torch.ones(30)
    strand = traced(2.164 * angles[2:], -2.967 * angles[3:]).double().numpy()
    assert measures.secondary(strand)[1] > 0.8 and measures.left_handed(strand) is None


def test_distances_after_the_best_turn():
    chain = helix()
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    assert measures.rmsd(chain @ turn + 5, chain) == pytest.approx(0, abs=1e-6)
    assert measures.rmsd(-chain, chain) > 1
    assert measures.best_window([chain @ turn], chain[7:15]) == pytest.approx(0, abs=1e-6)
    assert measures.best_window([chain[:3]], chain[7:15]) == float("inf")


def test_likeness_of_folds():
    assert measures.similarity(helix(), helix()) == pytest.approx(1, abs=1e-3)
    assert measures.similarity(helix(), helix(hand=-1)) < 0.7


def test_clashes_and_size():
    line = np.arange(10)[:, None] * np.array([[3.8, 0, 0]])
    assert measures.clashes(line) == 0 and measures.gyration(line) > 1.5
    folded = line.copy()
    folded[9] = folded[2] + (0, 1.0, 0)
    assert measures.clashes(folded) == 10
    assert measures.clashes(folded, np.arange(10) == 9) == 10
    assert measures.clashes(folded, np.arange(10) < 2) == 0


def test_random_chains_have_training_angles():
    chains_ = random_chains([helix()], [20, 25], 0)
    assert [len(chain) for chain in chains_] == [20, 25]
    assert measures.bends(chains_[0]) == pytest.approx(measures.bends(helix(20)), abs=0.1)
    assert measures.twists(chains_[1]) == pytest.approx(measures.twists(helix(25)), abs=0.1)


def test_lengths_are_those_of_the_chains_that_are_trained_on():
    """Longer chains are not trained on; they were counted as chains of the greatest length."""
    recipe = SMCDiff.tiny()
    all_lengths = np.random.default_rng(0).integers(recipe.shortest, 4 * recipe.longest, 500)
    quantiles = tuple(np.quantile(all_lengths, np.linspace(0, 1, 11)).tolist())
    facts = dataclasses.replace(
        open_cases("backbones:count=8").facts(), scalars={"length": quantiles}
    )
    law = recipe.fitted(facts).lengths
    drawn = np.array([drawn_length(law, seed) for seed in range(400)])
    fits = all_lengths[all_lengths <= recipe.longest]
    assert (drawn == recipe.longest).mean() < 0.1
    assert drawn.mean() == pytest.approx(fits.mean(), rel=0.1)

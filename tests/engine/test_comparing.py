"""Two tickets layer by layer, against numpy on masks that the engine builds from files."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.analysis import comparing, overlaps
from engine.analysis.comparing import Comparison, compare
from engine.analysis.statistics import Mean
from engine.errors import InputError
from engine.recipes import Chain, Rule, Run, Training, Winning
from engine.store import database, sides
from engine.store.files import Folder
from engine.store.records import file_of
from engine.store.sides import Side
from engine.tickets import masks, starts

CONVS = ["conv1.weight", "conv2.weight", "conv3.weight", "conv4.weight"]


@pytest.fixture
def connection(trained: Path) -> Iterator[sqlite3.Connection]:
    with closing(database.reader(trained)) as connection:
        yield connection


@pytest.fixture
def folder(trained: Path) -> Folder:
    return Folder(database.files_folder(trained))


def of_names(connection: sqlite3.Connection, folder: Folder, a: str, b: str, level: int | None = None) -> Comparison:
    return compare(connection, folder, sides.find(connection, a), sides.find(connection, b), level)


def chain(connection: sqlite3.Connection, scope: str, seed: int) -> Chain:
    """The chain of a scope and replicate, from the recipe of a run of it."""
    row = connection.execute(
        "SELECT recipe FROM runs WHERE ticket = 'winning' AND level = 2 AND scope = ? AND seed = ?", (scope, seed)
    ).fetchone()
    ticket = Run.from_json(row[0]).ticket
    assert isinstance(ticket, Winning)
    return ticket.chain


def numpy_masks(connection: sqlite3.Connection, folder: Folder, scope: str, seed: int, level: int) -> dict[str, Any]:
    def read(run: Run, kind: str) -> bytes:
        return folder.get(file_of(connection, run.digest, kind) or "")

    return {
        name: mask.numpy()
        for name, mask in starts.unpack_masks(read(*chain(connection, scope, seed).mask_of(level))).items()
    }


def same(found: Mean | None, values: list[float]) -> None:
    assert found is not None
    assert found.n == len(values)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.std == pytest.approx(np.std(values, ddof=1), abs=1e-15)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_comparison_says_what_numpy_says_of_the_masks(
    connection: sqlite3.Connection, folder: Folder, level: int
) -> None:
    found = of_names(connection, folder, "tiny:global", "tiny:layerwise", level)
    pairs = [
        [numpy_masks(connection, folder, scope, seed, level) for scope in ("global", "layerwise")] for seed in (0, 1)
    ]
    for masks_of in pairs:
        for one in masks_of:
            one["total"] = np.concatenate([one[name].ravel() for name in CONVS])
    assert [layer.name for layer in (*found.layers, found.total)] == [*CONVS, "total"]
    for layer in (*found.layers, found.total):
        both = [(a[layer.name], b[layer.name]) for a, b in pairs]
        assert {a.size for a, _ in both} == {layer.weights}
        same(layer.kept_a, [a.sum() for a, _ in both])
        same(layer.kept_b, [b.sum() for _, b in both])
        same(layer.remaining_a, [a.mean() for a, _ in both])
        same(layer.pruned_b, [(~b).mean() for _, b in both])
        same(layer.remaining_ratio, [a.sum() / b.sum() for a, b in both])
        same(layer.pruned_ratio, [(~a).sum() / (~b).sum() for a, b in both])
        same(layer.difference, [a.mean() - b.mean() for a, b in both])
        same(layer.overlap, [(a & b).sum() / (a | b).sum() for a, b in both])


def test_a_matrix_has_what_numpy_says_of_each_pair_of_masks(connection: sqlite3.Connection, folder: Folder) -> None:
    found, notes = overlaps.matrices(connection, folder, "tiny")
    assert notes == []
    chains = ["digits-a -> digits-a winning global", "digits-a -> digits-a winning layerwise"]
    assert [(one.level, one.chain) for one in found] == [(n, c) for n in (1, 2, 3) for c in (*chains, None)]

    def flat(scope: str, seed: int, level: int) -> Any:
        masks_of = numpy_masks(connection, folder, scope, seed, level)
        return np.concatenate([masks_of[name].ravel() for name in CONVS])

    def jaccard(one: Any, other: Any) -> float:
        return float((one & other).sum() / (one | other).sum())

    for matrix in found:
        scopes = ("global", "layerwise")
        if matrix.chain:
            scope = scopes[chains.index(matrix.chain)]
            assert matrix.names == ("replicate 0", "replicate 1")
            members = [[flat(scope, seed, matrix.level)] for seed in (0, 1)]
        else:
            assert matrix.names == tuple(chains)
            members = [[flat(scope, seed, matrix.level) for seed in (0, 1)] for scope in scopes]
        for row, a in zip(matrix.cells, members, strict=True):
            for cell, b in zip(row, members, strict=True):
                values = [jaccard(one, other) for one, other in zip(a, b, strict=True)]
                assert cell.overlap is not None
                assert cell.chance is not None
                assert cell.overlap.mean == pytest.approx(np.mean(values))
                assert (cell.overlap.mean == 1.0) == (a is b)
                assert cell.chance.mean < 1
    assert [one.level for one in overlaps.matrices(connection, folder, "tiny", 2)[0]] == [2, 2, 2]
    with pytest.raises(
        InputError, match="tiny has no two tickets to compare at level 9: its chains have levels 1, 2, 3"
    ):
        overlaps.matrices(connection, folder, "tiny", 9)


def test_a_comparison_of_two_scopes_says_what_the_view_says(connection: sqlite3.Connection, folder: Folder) -> None:
    for level in (0, 1, 2, 3):
        found = of_names(connection, folder, "tiny:global", "tiny:layerwise", level)
        for layer in found.layers:
            rows = connection.execute(
                "SELECT * FROM layer_ratios WHERE target = 'digits-a' AND level = ? AND name = ? ORDER BY replicate",
                (level, layer.name),
            ).fetchall()
            same(layer.kept_a, [row["global_remaining"] for row in rows])
            same(layer.kept_b, [row["layerwise_remaining"] for row in rows])
            same(layer.remaining_ratio, [row["remaining_ratio"] for row in rows])
            if level:
                same(layer.pruned_ratio, [row["pruned_ratio"] for row in rows])
            else:
                assert layer.pruned_ratio is None


def test_chance_is_the_overlap_of_random_masks_with_these_counts(
    connection: sqlite3.Connection, folder: Folder
) -> None:
    found = of_names(connection, folder, "tiny:global", "tiny:layerwise", 3)
    draw = np.random.default_rng(0)
    unions = commons = 0
    for layer in found.layers:
        drawn = []
        for _ in range(400):
            a, b = np.zeros((2, layer.weights), bool)
            for mask, kept in ((a, layer.kept_a), (b, layer.kept_b)):
                assert kept is not None
                mask[draw.permutation(layer.weights)[: round(kept.mean)]] = True
            drawn.append(((a & b).sum(), (a | b).sum()))
        common, union = np.mean(drawn, axis=0)
        commons, unions = commons + common, unions + union
        assert layer.chance is not None
        assert layer.chance.mean == pytest.approx(common / union, abs=0.02)
    assert found.total.chance is not None
    assert found.total.chance.mean == pytest.approx(commons / unions, abs=0.02)


def test_masks_are_read_without_torch_as_they_were_written() -> None:
    draw = torch.Generator().manual_seed(0)
    shapes = {"a": (3, 5), "b": (8,), "c": (2, 3, 3, 3), "empty": (4, 4)}
    first = {name: torch.rand(shape, generator=draw) < 0.4 for name, shape in shapes.items()}
    second = {name: torch.rand(shape, generator=draw) < 0.7 for name, shape in shapes.items()}
    first["empty"][:] = False
    training = Training(
        dataset="digits",
        model="vgg-digits",
        learning_rate=0.1,
        epochs=1,
        milestones=(),
        augmentation="none",
        profile="exact",
        seed=0,
    )
    chain = Chain(training, Rule())
    packed = [starts.pack_masks(one, chain, 2) for one in (first, second)]
    for name, mask in masks.read(packed[0]).items():
        bits = [bool(mask >> place & 1) for place in range(first[name].numel())]
        assert bits == first[name].flatten().tolist()
    assert masks.common(*packed) == {name: int((first[name] & second[name]).sum()) for name in shapes}


@pytest.mark.parametrize(
    "data", [b"", b"\x05\0\0\0\0\0\0\0hello", b"\x02\0\0\0\0\0\0\0[]", b'\x08\0\0\0\0\0\0\0{"a": 1}']
)
def test_bytes_that_are_no_mask_file_are_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="not a cockpit mask file"):
        masks.read(data)


def test_a_curve_against_itself_is_unchanged(connection: sqlite3.Connection, folder: Folder) -> None:
    found = of_names(connection, folder, "tiny:global", "tiny:global", 3)
    for layer in (*found.layers, found.total):
        assert layer.unchanged
        assert layer.remaining_ratio == layer.pruned_ratio == layer.overlap == Mean(1.0, 0.0, 2)
    other = of_names(connection, folder, "tiny:global", "tiny:layerwise", 3)
    assert not any(layer.unchanged for layer in other.layers)


def test_a_preserved_random_ticket_has_the_mask_of_its_chain_and_a_permuted_one_none(
    connection: sqlite3.Connection, folder: Folder
) -> None:
    preserved = of_names(connection, folder, "tiny:global", "tiny:digits-a -> digits-b random-preserved global", 3)
    assert preserved.total.overlap == Mean(1.0, 0.0, 2)
    permuted = of_names(connection, folder, "tiny:global", "tiny:digits-b random-global", 3)
    assert permuted.total.overlap is None
    assert permuted.total.chance is not None
    assert permuted.notes == ("no overlap: masks of random tickets are not stored",)


def test_where_a_ticket_keeps_everything_the_overlap_needs_no_file(connection: sqlite3.Connection) -> None:
    nowhere = Folder(Path("/nonexistent"))
    at_0 = compare(
        connection, nowhere, sides.find(connection, "tiny:global"), sides.find(connection, "tiny:layerwise"), 0
    )
    assert at_0.total.overlap == Mean(1.0, 0.0, 2)
    assert at_0.notes == ()


def test_lost_files_leave_the_counts_and_are_named(connection: sqlite3.Connection, tmp_path: Path) -> None:
    a, b = (sides.find(connection, f"tiny:{scope}") for scope in sides.SCOPES)
    found = compare(connection, Folder(tmp_path), a, b, 3)
    assert all(layer.overlap is None and layer.remaining_ratio is not None for layer in found.layers)
    assert all("ticket file" in note and "is missing" in note for note in found.notes)


def test_one_side_alone_has_only_its_own_figures(connection: sqlite3.Connection, folder: Folder) -> None:
    found = compare(connection, folder, sides.find(connection, "tiny:global"), None, 2)
    assert found.total.remaining_a.mean == pytest.approx(0.64, abs=1e-3)
    assert found.total.remaining_b is found.total.difference is found.total.overlap is None


def test_the_default_level_is_the_sparsest_that_both_have(connection: sqlite3.Connection, folder: Folder) -> None:
    real = sides.find(connection, "tiny:global")
    short = Side("short", "", {level: real.runs[level] for level in (0, 2)})
    one = Side("one", "", {2: {1: real.runs[2][1]}, 3: {5: real.runs[3][1]}})
    assert comparing.levels(real, short) == comparing.levels(short, real) == (0, 2)
    assert compare(connection, folder, real, short).level == 2
    found = compare(connection, folder, real, one)  # no common replicate at level 3
    assert (found.level, found.n, found.replicates) == (2, 1, (1,))
    with pytest.raises(InputError, match="level 3 cannot be compared: choose from 0, 2"):
        compare(connection, folder, real, short, 3)
    with pytest.raises(InputError, match="no level in common"):
        compare(connection, folder, Side("none", "", {1: {7: 1}}), short)


def test_a_run_is_compared_with_each_replicate_of_a_curve_at_its_own_level(
    connection: sqlite3.Connection, folder: Folder
) -> None:
    curve = sides.find(connection, "tiny:layerwise")
    digest = connection.execute("SELECT digest FROM runs WHERE id = ?", (curve.runs[2][0],)).fetchone()[0]
    run = sides.find(connection, digest[:12])
    assert run.is_run
    assert (run.level(0), run.run(0, 5)) == (2, curve.runs[2][0])
    found = compare(connection, folder, run, curve)
    assert (found.level, found.n) == (2, 2)
    assert found.total.overlap is not None
    assert 0.5 < found.total.overlap.mean < 1.0  # 1 with itself, less with the other replicate
    deeper = compare(connection, folder, run, curve, 3)
    ratio = deeper.total.remaining_ratio
    assert ratio is not None
    assert (ratio.mean, ratio.std, ratio.n) == pytest.approx((1.25, 0.0, 2), abs=2e-3)
    two = compare(connection, folder, run, run)
    assert (two.n, two.levels, two.replicates) == (1, (), ())
    with pytest.raises(InputError, match="a run has one level"):
        compare(connection, folder, run, run, 2)
    with pytest.raises(InputError, match="replicate 0 cannot be compared"):
        compare(connection, folder, run, run, replicate=0)


def test_one_replicate_alone_has_no_deviation(connection: sqlite3.Connection, folder: Folder) -> None:
    a, b = (sides.find(connection, f"tiny:{scope}") for scope in sides.SCOPES)
    both, first = compare(connection, folder, a, b, 3), compare(connection, folder, a, b, 3, replicate=0)
    assert first.n == 1
    assert first.replicates == both.replicates == (0, 1)
    assert all(layer.difference is not None and layer.difference.std is None for layer in first.layers)
    with pytest.raises(InputError, match="replicate 2 cannot be compared at level 3: choose from 0, 1"):
        compare(connection, folder, a, b, 3, replicate=2)


def test_layers_that_only_one_ticket_prunes_are_left_out(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    shutil.copy(trained, path)
    with closing(database.writer(path)) as connection:
        a, b = (sides.find(connection, f"tiny:{scope}") for scope in sides.SCOPES)
        for runs in b.runs.values():
            for run in runs.values():
                connection.execute("DELETE FROM layers WHERE run_id = ? AND name = 'conv4.weight'", (run,))
        found = compare(connection, Folder(tmp_path), a, b, 3)
        assert [layer.name for layer in found.layers] == CONVS[:3]
        assert found.total.weights == sum(layer.weights for layer in found.layers)
        assert "left out, for not both tickets prune it: conv4.weight" in found.notes
        connection.execute("UPDATE layers SET name = 'other.' || name WHERE run_id = ?", (b.runs[2][0],))
        with pytest.raises(InputError, match="no layer in common"):
            compare(connection, Folder(tmp_path), a, b, 2)


def test_a_heat_map_has_the_mean_fraction_of_every_level(connection: sqlite3.Connection) -> None:
    side = sides.find(connection, "tiny:global")
    found = comparing.heat_map(connection, side)
    assert found.levels == (0, 1, 2, 3)
    assert list(found.layers) == [*CONVS, "total"]
    assert found.layers["total"] == pytest.approx([1.0, 0.8, 0.64, 0.512], abs=1e-3)
    for name in CONVS:
        for place, level in enumerate(found.levels):
            rows = connection.execute(
                "SELECT global_remaining * 1.0 / weights_total FROM layer_ratios"
                " WHERE target = 'digits-a' AND level = ? AND name = ?",
                (level, name),
            ).fetchall()
            assert found.layers[name][place] == pytest.approx(np.mean([row[0] for row in rows]))
    one = comparing.heat_map(connection, side, replicate=1)
    assert one.levels == found.levels
    assert one.layers["conv1.weight"] != found.layers["conv1.weight"]


def test_sides_are_found_by_their_names(connection: sqlite3.Connection) -> None:
    chain_of_scope = sides.find(connection, "tiny:layerwise")
    assert chain_of_scope.about == "digits-a -> digits-a winning layerwise"
    assert sides.find(connection, "tiny:digits-a -> digits-a winning layerwise") == chain_of_scope
    other = sides.find(connection, "tiny:digits-a -> digits-b winning layerwise")
    assert other.name == "tiny:digits-a -> digits-b winning layerwise"
    assert [side.name for side in sides.of_scopes(connection, "tiny")] == ["tiny:global", "tiny:layerwise"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tinny", "unknown experiment 'tinny': choose from tiny; did you mean 'tiny'?; a run is named by 6 or more"),
        ("tiny", "tiny has several chains: name one of 'tiny:global', 'tiny:layerwise'"),
        ("tiny:layerwize", "did you mean 'layerwise'?"),
        ("abcdef123", "no experiment and no run's digest begins with 'abcdef123'"),
        ("abcde", "unknown experiment 'abcde'"),
    ],
)
def test_what_names_nothing_or_several_things_is_refused(connection: sqlite3.Connection, text: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        sides.find(connection, text)
    assert said in str(error.value)


def test_digits_that_begin_several_digests_are_refused_with_the_candidates(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "experiments.db"
    shutil.copy(trained, path)
    with closing(database.writer(path)) as connection:
        connection.execute("UPDATE runs SET digest = 'abcdef' || substr(digest, 7) WHERE id <= 3")
        with pytest.raises(InputError) as error:
            sides.find(connection, "ABCDEF")
        for row in connection.execute("SELECT substr(digest, 1, 12) FROM runs WHERE id <= 3"):
            assert row[0] in str(error.value)
        connection.execute("UPDATE runs SET weights_total = NULL WHERE id = 1")
        digest = connection.execute("SELECT digest FROM runs WHERE id = 1").fetchone()[0]
        with pytest.raises(InputError, match="has not been started"):
            sides.find(connection, digest)


def test_choices_hold_all_words_curves_before_runs_and_no_more_than_asked_for(connection: sqlite3.Connection) -> None:
    found = sides.choices(connection, ["layerwise", "digits-b", "winning"], 100)
    assert [choice.name for choice in found if ":" in choice.name] == ["tiny:digits-a -> digits-b winning layerwise"]
    assert found[0].name.startswith("tiny:")
    assert [choice.about for choice in found[1:]] == [
        f"level {level}, seed {seed}: digits-a → digits-b winning layerwise" for level in (3, 2, 1) for seed in (1, 0)
    ]
    everything = sides.choices(connection, [], 10_000)
    names = [choice.name for choice in everything]
    assert len(names) == len(set(names))
    assert "tiny:global" in names
    assert not any("dense" in name for name in names)
    for choice in (everything[0], everything[-1]):
        assert sides.find(connection, choice.name).about == choice.about
    assert sides.choices(connection, [], 3) == everything[:3]
    assert sides.choices(connection, ["100%"], 10) == []


def test_a_chain_is_not_offered_beside_its_own_tickets_on_another_target() -> None:
    with closing(database.reader(Path(__file__).parents[1] / "data" / "cockpit.db")) as connection:
        first, second = sides.first_two(connection, "to the whole")
    assert "winning" in first.about
    assert second is not None
    assert "random-global" in second.about

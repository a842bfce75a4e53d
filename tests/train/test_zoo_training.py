from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from deepalign_cli.errors import CheckpointError, DeepalignError, UsageError
from deepalign_cli.models.designs import Design
from deepalign_cli.models.designs.cnn import CNN
from deepalign_cli.models.designs.decoder import Decoder
from deepalign_cli.models.designs.mlp import MLP
from deepalign_cli.models.designs.resnet import ResNet
from deepalign_cli.models.designs.siren import Siren
from deepalign_cli.models.designs.transformer import Transformer
from deepalign_cli.symmetry.tensor_names import is_statistic
from deepalign_cli.train.plans import Schedule
from deepalign_cli.train.tasks import Examples, Task, load_examples
from deepalign_cli.train.zoo_files import Family, load_family, save_family
from deepalign_cli.train.zoo_losses import batch_of, losses
from deepalign_cli.train.zoo_training import _orders, train_family, train_zoo
from tests.symmetry.builders import seeded
from tests.train.builders import (
    QUICK,
    TEXT,
    bytes_of,
    same_weights,
    separable,
    waves,
    write_data,
    write_text,
)

TASK = Task("tiny", side=4, images=80, test=40)
RECIPE = """
seed = 4
[schedule]
networks = 2
epochs = 1
batch = 50
[[set]]
name = "first"
kind = "mlp"
count = 2
depth = [1, 2]
width = [4, 8]
task = { data = "tiny", side = 4, images = 100 }
[[set]]
name = "second"
kind = "siren"
sizes = [2, 4, 1]
task = { data = "tiny", side = 4, images = 2, field = true }
schedule = { members = 2, networks = 4 }
"""


def quiet(name: str, share: float) -> None:
    assert name
    assert 0 <= share <= 1


def recipe(folder: Path, text: str = RECIPE) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def quick(design: Design, seed: int = 1, schedule: Schedule = QUICK) -> Family:
    return train_family(design, TASK, separable(), schedule, seed)


@pytest.mark.slow
@pytest.mark.parametrize(
    "design",
    [
        MLP((16, 12, 10)),
        CNN((1, 6, 8), 4),
        CNN((1, 6, 8), 4, norm=True, average=True, pools=(1,)),
        ResNet((4, 8), size=4),
        Transformer(16, 2, 16, layers=1, size=4, patch=2),
    ],
)
def test_training_beats_chance(design: Design) -> None:
    examples = separable()
    family = train_family(design, TASK, examples, Schedule(2, 12, 20, 1e-2), 1)
    assert family.score.shape == (2,)
    assert float(family.score.min()) > 0.6  # of four equal classes
    for index in range(2):
        out = design(family.network(index), examples.test_x)
        accuracy = (out.argmax(1) == examples.test_y).float().mean()
        assert float(accuracy) == pytest.approx(float(family.score[index]), abs=0.03)
    assert all(not w.requires_grad for w in family.weights.values())


@pytest.mark.slow
@pytest.mark.parametrize("style", [{}, {"norm": "rms", "positions": "rotary", "feed_forward": "swiglu"}])
def test_text_is_learned(style: dict[str, str], tmp_path: Path) -> None:
    examples = load_examples(TEXT, write_text(tmp_path))
    design = Decoder(16, 2, 24, layers=1, context=12, **style)  # type: ignore[arg-type]
    family = train_family(design, TEXT, examples, Schedule(2, 20, 20, 1e-2), 1)
    assert float(family.score.min()) > 0.6  # of three letters two are told by those before
    for index in range(2):
        out = design(family.network(index), examples.test_x)
        accuracy = (out.argmax(-1) == examples.test_y).float().mean()
        assert float(accuracy) == pytest.approx(float(family.score[index]), abs=1e-3)


@pytest.mark.slow
def test_a_seed_means_the_same_networks() -> None:
    design = CNN((1, 4, 4), 4, norm=True)
    first, again, other = (dict(quick(design, seed).weights) for seed in (1, 1, 2))
    assert same_weights(first, again)
    assert not any(torch.equal(first[n], other[n]) for n in first)


def test_networks_of_a_family_differ() -> None:
    family = quick(MLP((16, 12, 10)))
    for w in family.weights.values():
        assert len(w) == QUICK.networks
        assert not torch.equal(w[0], w[1])
        assert not torch.equal(w[1], w[2])


def test_statistics_are_those_of_the_finished_network() -> None:
    design, examples = CNN((1, 4, 6), 4, norm=True), separable()
    family = quick(design)
    for index in range(QUICK.networks):
        own = family.network(index)
        fresh = {n: torch.zeros_like(w) for n, w in own.items() if is_statistic(n)}
        assert fresh
        with torch.no_grad():
            design(own, examples.train_x, fresh)
        assert all(torch.allclose(own[n], w, atol=1e-5) for n, w in fresh.items())


def test_losses_of_a_stack_are_those_of_each_network() -> None:
    for design in (MLP((16, 6, 10)), CNN((1, 4, 4), 4, norm=True), Transformer(8, 2, 16, size=4, patch=2)):
        family = quick(design, schedule=Schedule(3, 0.1, 20))
        rows = torch.randint(80, (3, 10), generator=seeded(1))
        x, y = batch_of(separable(), TASK, rows, family.member)
        found = losses(design, TASK, family.weights, x, y)
        for index in range(3):
            out = design(family.network(index), x[index], {})
            expected = torch.nn.functional.cross_entropy(out, y[index])
            assert torch.allclose(found[index], expected, atol=1e-5)


def test_the_loss_of_text_is_the_mean_over_its_places() -> None:
    design = Decoder(8, 2, 8, layers=1, context=6, tokens=5)
    weights = {name: w[None] for name, w in design.init(seeded(1)).items()}
    x, y = (torch.randint(5, (1, 4, 6), generator=seeded(s)) for s in (2, 3))
    chances = design({n: w[0] for n, w in weights.items()}, x[0]).log_softmax(-1)
    expected = -chances.gather(2, y[0, :, :, None]).mean()
    assert torch.allclose(losses(design, TEXT, weights, x, y), expected, atol=1e-6)


@pytest.mark.slow
def test_fields_learn_the_image_of_their_member() -> None:
    task, examples = Task("waves", side=6, field=True), waves()
    schedule = Schedule(networks=4, epochs=60, batch=12, rate=1e-2, members=2)
    family = train_family(Siren((2, 16, 1), 3.0), task, examples, schedule, 1)
    assert family.member.tolist() == [0, 1, 0, 1]
    for index, member in enumerate([0, 1, 0, 1]):
        out = family.design(family.network(index), examples.train_x)[:, 0]
        errors = (out - examples.train_y).square().mean(1)
        assert int(errors.argmin()) == member
        assert float(family.score[index]) == pytest.approx(-float(errors[member]), rel=1e-3)
        assert float(errors[member]) < 0.2 * float(examples.train_y[member].var())
    rows = torch.tensor([[0, 3], [1, 1], [2, 5], [35, 0]])
    x, y = batch_of(examples, task, rows, family.member)
    assert torch.equal(x[3, 0], examples.train_x[35])
    answers = [examples.train_y[m][r] for m, r in zip(family.member, rows, strict=True)]
    assert torch.equal(y, torch.stack(answers))


def test_a_short_data_set_is_one_batch() -> None:
    x = separable(count=8)
    family = train_family(MLP((16, 4, 10)), TASK, x, Schedule(2, 3, batch=100), 1)
    assert all(w.isfinite().all() for w in family.weights.values())


@pytest.mark.slow
def test_a_family_survives_its_file(tmp_path: Path) -> None:
    task, examples = Task("waves", side=6, field=True), waves()
    schedule = Schedule(networks=2, epochs=1, batch=12, members=2)
    for number, family in enumerate(
        [quick(ResNet((4, 8), size=4)), train_family(Siren((2, 4, 1)), task, examples, schedule, 1)]
    ):
        path = tmp_path / f"{number}.safetensors"
        save_family(path, family)
        found = load_family(path)
        assert same_weights(dict(found.weights), dict(family.weights))
        assert (found.design, found.task) == (family.design, family.task)
        assert torch.equal(found.score, family.score)
        assert torch.equal(found.member, family.member)


def test_what_is_no_family_is_refused(tmp_path: Path) -> None:
    path, other = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_family(path, quick(MLP((16, 4, 10))))
    tensors = load_file(path)
    design = '{"kind": "mlp", "sizes": [16, 4, 10]}'
    metadata = {"deepalign.zoo": "1", "design": design, "task": '{"data": "t"}'}
    spoilt = [
        ("deepalign.zoo", "2"),
        ("design", "none"),
        ("design", '{"kind": "x"}'),
        ("task", '{"date": 1}'),
    ]
    for key, value in spoilt:
        save_file(tensors, other, {**metadata, key: value})
        with pytest.raises(DeepalignError):
            load_family(other)
    save_file({n: w for n, w in tensors.items() if n != "score"}, other, metadata)
    with pytest.raises(CheckpointError, match="score"):
        load_family(other)
    with pytest.raises(UsageError):
        load_family(tmp_path / "missing.safetensors")


def test_a_zoo_is_one_file_a_family_and_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    data, whole, resumed = write_data(tmp_path), tmp_path / "whole", tmp_path / "resumed"
    assert train_zoo(recipe(tmp_path), data, whole, quiet) == 3
    first = bytes_of(whole)
    assert sorted(first) == ["first-00.safetensors", "first-01.safetensors", "second-00.safetensors"]
    resumed.mkdir()
    kept = marked(whole / "first-00.safetensors", resumed / "first-00.safetensors")
    train_zoo(recipe(tmp_path), data, resumed, quiet)
    assert bytes_of(resumed) == {**first, "first-00.safetensors": kept}
    assert load_family(whole / "second-00.safetensors").member.tolist() == [0, 1, 0, 1]
    one, two = (load_family(whole / f"first-0{i}.safetensors").design for i in (0, 1))
    assert one != two


@pytest.mark.slow
def test_the_seed_of_a_set_does_not_depend_on_the_others(tmp_path: Path) -> None:
    data = write_data(tmp_path)
    train_zoo(recipe(tmp_path), data, tmp_path / "both", quiet)
    head, _, second = RECIPE.split("[[set]]")
    train_zoo(recipe(tmp_path, f"{head}[[set]]{second}"), data, tmp_path / "one", quiet)
    assert bytes_of(tmp_path / "one").items() <= bytes_of(tmp_path / "both").items()
    train_zoo(recipe(tmp_path, RECIPE.replace("seed = 4", "seed = 5")), data, tmp_path / "other", quiet)
    both, other = bytes_of(tmp_path / "both"), bytes_of(tmp_path / "other")
    assert not any(both[name] == other[name] for name in both)


def marked(family: Path, copy: Path) -> bytes:
    """The same family in a file that can be told from another."""
    with safe_open(family, "pt") as file:
        metadata = file.metadata()
    save_file(load_file(family), copy, {**metadata, "mark": "left alone"})
    return copy.read_bytes()


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("width = [4, 8]", "width = [12, 16]", "another design"),
        ("side = 4, images = 100 }", "side = 4, images = 90 }", "another task"),
        ("networks = 2", "networks = 3", "another number of networks"),
    ],
)
def test_another_family_is_not_taken_for_the_recipes(tmp_path: Path, old: str, new: str, named: str) -> None:
    data, out = write_data(tmp_path), tmp_path / "zoo"
    train_zoo(recipe(tmp_path), data, out, quiet)
    before = bytes_of(out)
    with pytest.raises(UsageError, match=rf"first-0\d\.safetensors' was trained with {named}"):
        train_zoo(recipe(tmp_path, RECIPE.replace(old, new, 1)), data, out, quiet)
    assert bytes_of(out) == before


def test_a_file_that_is_no_familys_is_named(tmp_path: Path) -> None:
    data, out = write_data(tmp_path), tmp_path / "zoo"
    out.mkdir()
    (out / "first-01.safetensors").write_bytes(b"mine")
    with pytest.raises(CheckpointError, match="first-01"):
        train_zoo(recipe(tmp_path), data, out, quiet)
    assert bytes_of(out) == {"first-01.safetensors": b"mine"}


def test_a_zoo_that_is_there_needs_no_data(tmp_path: Path) -> None:
    out = tmp_path / "zoo"
    train_zoo(recipe(tmp_path), write_data(tmp_path), out, quiet)
    (tmp_path / "tiny.npz").unlink()
    assert train_zoo(recipe(tmp_path), tmp_path, out, quiet) == 3


def test_a_set_may_be_one_design_with_many_seeds(tmp_path: Path) -> None:
    written = 'name = "one"\ncount = 2\ndesign = { kind = "mlp", sizes = [16, 5, 10] }\n'
    text = f'[[set]]\n{written}task = {{ data = "tiny", side = 4, images = 50 }}\n'
    schedule = "[schedule]\nnetworks = 2\nepochs = 1\n"
    train_zoo(recipe(tmp_path, schedule + text), write_data(tmp_path), tmp_path / "zoo", quiet)
    one, two = (load_family(tmp_path / "zoo" / f"one-0{i}.safetensors") for i in (0, 1))
    assert one.design == two.design == MLP((16, 5, 10))
    assert not any(torch.equal(one.weights[n], two.weights[n]) for n in one.weights)


LATE = (
    RECIPE
    + """
[[set]]
name = "late"
design = { kind = "mlp", sizes = SIZES }
task = { data = "DATA", side = 4, images = 100 }
"""
)


@pytest.mark.parametrize(
    ("data", "sizes", "named"),
    [
        ("other", "[16, 4, 10]", "other.npz"),
        ("tiny", "[25, 4, 10]", "the design of 'late-00' does not take its inputs"),
        ("tiny", "[16, 4, 3]", "the design of 'late-00' has 3 outputs but needs 4"),
    ],
)
def test_the_last_sets_data_are_checked_before_the_first_is_trained(
    tmp_path: Path, data: str, sizes: str, named: str
) -> None:
    text = LATE.replace("DATA", data).replace("SIZES", sizes)
    with pytest.raises(UsageError, match=named):
        train_zoo(recipe(tmp_path, text), write_data(tmp_path), tmp_path / "zoo", quiet)
    assert not (tmp_path / "zoo").exists()


DECODER = 'kind = "decoder", width = 8, heads = 2, hidden = 8'


@pytest.mark.parametrize(
    ("design", "context", "named"),
    [
        ('kind = "mlp", sizes = [12, 4, 96]', 12, "does not take its inputs"),
        (f"{DECODER}, context = 11", 12, "does not take its inputs: The size of tensor"),
        (f"{DECODER}, context = 12, tokens = 9", 12, "does not take its inputs: index out of range"),
        (f"{DECODER}, context = 12", 0, "there is no data set"),
    ],
)
def test_text_and_designs_must_fit(tmp_path: Path, design: str, context: int, named: str) -> None:
    text = f'[[set]]\ndesign = {{ {design} }}\ntask = {{ data = "abc", context = {context} }}\n'
    with pytest.raises(UsageError, match=named) as caught:
        train_zoo(recipe(tmp_path, text), write_text(tmp_path), tmp_path / "zoo", quiet)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "no .*set"),
        ("colour = 1\n" + RECIPE, "colour"),
        ("set = 3", "no .*set"),
        ("set = [3]", "no .*set"),
        ("set = []", "no .*set"),
        (RECIPE.replace("seed = 4", 'seed = "x"'), "seed must be an integer, not 'x'"),
        (RECIPE.replace("count = 2", 'count = "a"'), "'first' needs a kind and a count"),
        (RECIPE.replace("count = 2", "count = 0"), "'first' needs a kind and a count"),
        (RECIPE.replace('kind = "mlp"', "kind = 3"), "'first' needs a kind and a count"),
        (RECIPE.replace('"second"', '"first"'), "two sets are called 'first'"),
        (RECIPE.replace('"second"', '"../second"'), "cannot be called"),
        (RECIPE.replace('"second"', '"a/b"'), "cannot be called"),
        (RECIPE.replace('"second"', "3"), "cannot be called 3"),
        (RECIPE.replace("{ members = 2, networks = 4 }", "3"), "schedule. of the recipe is not a table"),
        (
            RECIPE.replace("networks = 2", "networks = 0"),
            "networks must be an integer of at least 1, not 0",
        ),
        (RECIPE.replace("epochs = 1", "epochs = inf"), "epochs"),
        (RECIPE.replace("epochs", "epoch"), "epoch"),
        (RECIPE.replace("members", "member"), "member"),
        (RECIPE.replace("field = true", "filed = true"), "filed"),
        (RECIPE.replace('"siren"', '"oracle"'), "oracle"),
        (RECIPE.replace("sizes", "size"), "size"),
        (RECIPE.replace("depth = [1, 2]", "depth = 2"), "mlp"),
        (RECIPE.replace('data = "tiny", side = 4, images = 100', "side = 4"), "data"),
    ],
)
def test_a_recipe_with_unknown_entries_trains_nothing(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        train_zoo(recipe(tmp_path, text), write_data(tmp_path), tmp_path / "zoo", quiet)
    assert not (tmp_path / "zoo").exists()


def test_progress_rises_to_one(tmp_path: Path) -> None:
    shares: list[float] = []
    train_zoo(recipe(tmp_path), write_data(tmp_path), tmp_path / "zoo", lambda _, share: shares.append(share))
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_examples_stay_as_they_are() -> None:
    examples: Examples = separable()
    kept = examples.train_x.clone()
    train_family(CNN((1, 4, 4), 4), TASK, examples, QUICK, 1)
    assert torch.equal(examples.train_x, kept)


# --- shares, parents and bfloat16 -------------------------------------------------------------------


def seen_rows(share: float) -> list[set[int]]:
    """The rows that each of three networks is trained on in some epochs."""
    schedule = Schedule(networks=3, batch=10, share=share)
    batches = list(_orders(80, 3, schedule, 20, seeded(1)))
    assert all(rows.shape == (3, 10) for rows in batches)
    return [{int(row) for rows in batches for row in rows[k]} for k in range(3)]


def test_a_share_is_each_networks_own() -> None:
    shares = seen_rows(0.5)
    assert [len(rows) for rows in shares] == [40, 40, 40]
    assert shares[0] != shares[1] != shares[2]
    assert all(rows == set(range(80)) for rows in seen_rows(1.0))


def test_children_are_nearer_than_strangers() -> None:
    design = MLP((16, 12, 10))

    def apart(family: Family) -> float:
        w = family.weights["fc1.weight"]
        return float((w[0] - w[1]).norm() / w[0].norm())

    children = quick(design, schedule=replace(QUICK, common=0.5))
    assert apart(children) < 0.5 * apart(quick(design))
    assert apart(children) > 0.01


def test_children_say_that_they_are(tmp_path: Path) -> None:
    family = quick(MLP((16, 4, 10)), schedule=replace(QUICK, common=0.25))
    save_family(tmp_path / "a.safetensors", family)
    save_family(tmp_path / "b.safetensors", quick(MLP((16, 4, 10))))
    assert load_family(tmp_path / "a.safetensors").common == 0.25
    assert load_family(tmp_path / "b.safetensors").common == 0.0
    metadata = {"deepalign.zoo": "1", "design": '{"kind": "mlp", "sizes": [16, 4, 10]}'}
    metadata |= {"task": '{"data": "t"}', "common": "often"}
    save_file(load_file(tmp_path / "a.safetensors"), tmp_path / "c.safetensors", metadata)
    with pytest.raises(CheckpointError, match="often"):
        load_family(tmp_path / "c.safetensors")


def test_half_is_about_the_same_loss() -> None:
    for design in (MLP((16, 6, 10)), CNN((1, 4, 4), 4, norm=True)):
        family = quick(design)
        x, y = batch_of(separable(), TASK, torch.arange(60).reshape(3, 20), family.member)
        whole, half = (losses(design, TASK, family.weights, x, y, half) for half in (False, True))
        assert half.dtype == torch.float32
        assert not torch.equal(whole, half)
        assert torch.allclose(whole, half, atol=0.05)


def test_a_gain_is_of_matrices_that_are_fresh() -> None:
    schedule = replace(QUICK, epochs=1e-6, rate=1e-12, networks=2)  # one step that changes nothing
    plain, grown = (
        train_family(MLP((16, 6, 10)), TASK, separable(), replace(schedule, gain=gain), 1).weights
        for gain in (1.0, 2.5)
    )
    for name, w in plain.items():
        assert torch.allclose(grown[name], w * (2.5 if w.ndim > 2 else 1.0), atol=1e-6)


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"gain": 0.0}, "gain"),
        ({"share": 0.0}, "share"),
        ({"share": 1.5}, "share"),
        ({"common": 1.0}, "common"),
        ({"common": 0.5, "members": 2}, "common parent"),
    ],
)
def test_shares_and_parents_that_cannot_be(table: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Schedule(**table)  # type: ignore[arg-type]

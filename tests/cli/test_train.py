from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from deepalign_cli.models.designs import DESIGNS
from deepalign_cli.network.dws import DwsConfig
from deepalign_cli.network.metanetworks import metanetwork_table
from deepalign_cli.network.refiner import RefinerConfig
from deepalign_cli.network.saved import load_network
from deepalign_cli.network.saved_autoencoder import read_autoencoder
from deepalign_cli.network.scalegmn import ScaleGmnConfig
from deepalign_cli.network.universal import UniversalConfig
from deepalign_cli.operations import train as operations
from deepalign_cli.train.autoencoding import AutoencoderPlan, read_autoencoder_plan
from deepalign_cli.train.loop import Plan, read_plan, start, train
from deepalign_cli.train.plans import Schedule, family_plans
from deepalign_cli.train.recipes import make, read_recipe
from deepalign_cli.train.searching import Search, add_refiner
from deepalign_cli.train.tasks import Task
from deepalign_cli.train.workers import Workers
from tests.docs.test_cli_reference import documented
from tests.operations.making import aligner, deepalign, metadata, tensors
from tests.train.runs import NETWORK, STEPS, log_of, toml, write_zoo

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`recipe.toml`, `data` and `zoo`, which no test changes."""
    return write_zoo(tmp_path_factory.mktemp("tiny"))


def words(folder: Path, out: Path, *more: object) -> list[object]:
    zoo, data = folder / "zoo", folder / "data"
    return ["train", folder / "recipe.toml", "--zoo", zoo, "--data", data, "--out", out, *more]


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an unbroken run, which no test changes."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert deepalign(*words(folder, out)).code == 0
    return out


def assert_same_run(one: Path, other: Path) -> None:
    assert (one / "best.safetensors").read_bytes() == (other / "best.safetensors").read_bytes()
    assert log_of(one) == log_of(other)


@pytest.mark.slow
def test_a_run_its_files_and_the_three_ways_to_tell(folder: Path, tmp_path: Path) -> None:
    out, best = tmp_path / "new" / "run", tmp_path / "new" / "run" / "best.safetensors"
    told = deepalign(*words(folder, out, "--json")).json
    human = deepalign(*words(folder, out, "--resume"))
    quiet = deepalign(*words(folder, out, "--resume", "-q"))

    log = log_of(out)
    assert {path.name for path in out.iterdir()} == {"best.safetensors", "last.pt", "log.jsonl"}
    assert set(told) == documented("train") | {"schema", "command"}
    assert (told["schema"], told["command"], told["steps"]) == (1, "train", 12)
    assert told["output"] == str(best)
    assert told["score"] == min(line["score"] for line in log)
    assert metadata(best)["deepalign.step"] == str([line["step"] for line in log if line["best"]][-1])
    assert load_network(best).encoder.config == UniversalConfig(**NETWORK)
    assert (human.code, human.err) == (0, "")
    assert human.out.startswith("step 12 of 12, in ")
    assert f"wrote {best} (best score {told['score']:.4f}" in human.out
    assert (quiet.code, quiet.out, quiet.err) == (0, f"{best}\n", "")


@pytest.mark.slow
def test_a_run_in_parts_is_the_whole_run(folder: Path, whole: Path, tmp_path: Path) -> None:
    first = deepalign(*words(folder, tmp_path / "parts", "--steps", 3, "--json")).json
    assert (first["steps"], first["output"], first["score"]) == (3, None, None)
    plain = deepalign(*words(folder, tmp_path / "parts", "--steps", 3, "--resume"))
    assert "step 3 of 12" in plain.out
    assert "no best network" in plain.out
    assert deepalign(*words(folder, tmp_path / "parts", "--resume")).code == 0
    assert_same_run(tmp_path / "parts", whole)


@pytest.mark.slow
def test_an_interrupted_run_goes_on(
    folder: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(
        run: Any, plan: Any, pool: Sequence[Any], out: Path, advance: Callable[[int, str], None], *more: Any
    ) -> None:
        def until_7(step: int, told: str) -> None:
            if step == 7:
                raise KeyboardInterrupt
            advance(step, told)

        train(run, plan, pool, out, until_7, *more)

    with monkeypatch.context() as patch:
        patch.setattr(operations, "train", interrupted)
        done = deepalign(*words(folder, tmp_path / "parts"))
        assert (done.code, done.out, done.err) == (130, "", "error: Interrupted\n")

    again = deepalign(*words(folder, tmp_path / "parts", "--json"))
    assert (again.code, again.out) == (2, "")
    assert "--resume" in again.error["hint"]
    assert deepalign(*words(folder, tmp_path / "parts", "--resume")).code == 0
    assert_same_run(tmp_path / "parts", whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["last.pt", "best.safetensors", "log.jsonl"])
def test_an_out_that_holds_a_run_is_left_alone(name: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    done = deepalign(*words(folder, tmp_path, "--json"))

    assert (done.code, done.out, done.error["code"]) == (2, "", "usage")
    assert "holds a run already" in done.error["message"]
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine")]


def test_resume_without_a_run_is_refused(folder: Path, tmp_path: Path) -> None:
    done = deepalign(*words(folder, tmp_path / "none", "--resume", "--json"))

    assert (done.code, done.out) == (2, "")
    assert "no run to resume" in done.error["message"]
    assert not (tmp_path / "none").exists()


def test_a_broken_run_is_not_resumed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "last.pt").write_bytes(b"PK")
    done = deepalign(*words(folder, tmp_path, "--resume", "--json"))

    assert (done.code, done.error["code"]) == (3, "checkpoint")
    assert "last.pt" in done.error["message"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "zoo", "data", "named"),
    [
        (None, "zoo", "data", "there is no recipe"),
        ("train = ", "zoo", "data", "cannot be read"),
        (toml(trian={}), "zoo", "data", "trian"),
        (toml(train={"stepz": 3}), "zoo", "data", "stepz"),
        (toml(train={"steps": 3}), "zoo", "data", "steps must be an integer of at least 10"),
        (toml(network={"encoder": "cnn"}), "zoo", "data", "no encoder 'cnn'"),
        (toml(refiner={}), "zoo", "data", "a [refiner], but no [search]"),
        (toml(refiner={}, network={}, search={}), "zoo", "data", "both a [network] and a [refiner]"),
        (toml(refiner={}, train={}, search={}), "zoo", "data", "both a [train] and a [search]"),
        (toml(search={}), "zoo", "data", "a [search], but no [refiner]"),
        (toml(refiner={}, search={}), "zoo", "data", "needs the aligner that it refines"),
        ("search = 3\n", "zoo", "data", "'search' of the recipe is not a table"),
        (toml(train={**STEPS, "families": {}}) + "[train.families]\n", "zoo", "data", "cannot be read"),
        (toml(network=NETWORK, train=STEPS) + "[train.families]\ncnn = 1\n", "zoo", "data", "'cnn'"),
        (toml(train=STEPS), "nowhere", "data", "--zoo"),
        (toml(train=STEPS), "data", "data", "no zoo in"),
        (toml(train=STEPS), "zoo", "recipe.toml", "--data"),
        (toml(train=STEPS), "zoo", "zoo", "tiny.npz"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    recipe: str | None, zoo: str, data: str, named: str, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.toml"
    if recipe is not None:
        path.write_text(recipe)
    done = deepalign(
        "train", path, "--zoo", folder / zoo, "--data", folder / data, "--out", tmp_path / "run", "--json"
    )

    assert (done.code, done.out, done.error["code"]) == (2, "", "usage")
    assert named in done.error["message"]
    assert done.error["hint"]
    assert not (tmp_path / "run").exists()


# --- a refiner --------------------------------------------------------------------------------------


@pytest.fixture
def searching(folder: Path, tmp_path: Path) -> Callable[..., list[object]]:
    """The words that search for a refiner, but for --out, behind an aligner that nobody has trained."""
    recipe, network = tmp_path / "search.toml", aligner(tmp_path / "net.safetensors")
    refiner = {"rounds": 1, "iterations": 5}
    recipe.write_text(toml(refiner=refiner, search={"trials": 5, "images": 40, "seed": 2}))

    def made(out: Path, *more: object, network: object = network) -> list[object]:
        spelt = [] if network is None else ["--network", network]
        return ["train", recipe, *words(folder, out)[2:], *spelt, *more]

    return made


@pytest.mark.parametrize(
    ("network", "code", "named"),
    [
        (None, 2, "needs the aligner"),
        ("none-such", 2, "no network is called 'none-such'"),
        ("./missing.safetensors", 2, "missing.safetensors"),
        ("RECIPE", 3, "search.toml"),
    ],
)
def test_a_refiner_needs_an_aligner(
    network: str | None, code: int, named: str, searching: Callable[..., list[object]], tmp_path: Path
) -> None:
    spelt = tmp_path / "search.toml" if network == "RECIPE" else network
    done = deepalign(*searching(tmp_path / "run", "--json", network=spelt))

    assert (done.code, done.out) == (code, "")
    assert named in done.error["message"]
    assert done.error["hint"]
    assert not (tmp_path / "run").exists()


def test_a_network_without_a_refiner_to_train_is_refused(folder: Path, tmp_path: Path) -> None:
    network = aligner(tmp_path / "net.safetensors")
    done = deepalign(*words(folder, tmp_path / "run", "--network", network, "--json"))

    assert (done.code, done.error["code"]) == (2, "usage")
    assert "--network is for a recipe with a [refiner]" in done.error["message"]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_refiner_is_searched_for(searching: Callable[..., list[object]], tmp_path: Path) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    told = deepalign(*searching(whole, "--json")).json
    human = deepalign(*searching(part, "--steps", 3))

    best = whole / "best.safetensors"
    assert {path.name for path in whole.iterdir()} == {"best.safetensors", "log.jsonl"}
    assert (told["steps"], told["output"]) == (5, str(best))
    assert [line["trial"] for line in log_of(whole)] == [0, 1, 2, 3, 4, 5]
    assert told["score"] == log_of(whole)[-1]["score"]
    assert metadata(best)["deepalign.trials"] == "5"
    made, own = tensors(best), tensors(tmp_path / "net.safetensors")
    assert all(torch.equal(made[name], w) for name, w in own.items())
    assert made.keys() - own.keys()
    assert all(name.startswith("refiner.") for name in made.keys() - own.keys())
    assert human.out.startswith("trial 3 of 5, in ")
    assert log_of(part) == log_of(whole)[:4]


def test_a_search_begins_anew_in_a_folder_of_its_own(
    searching: Callable[..., list[object]], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    resumed = deepalign(*searching(run, "--resume", "--json"))
    assert (resumed.code, resumed.error["code"]) == (2, "usage")
    assert resumed.error["message"] == "a [search] takes minutes and is not resumed"
    assert not run.exists()

    run.mkdir()
    (run / "log.jsonl").write_text("mine")
    again = deepalign(*searching(run, "--json"))
    assert (again.code, again.out) == (2, "")
    assert "holds a run already" in again.error["message"]
    assert "--resume" not in again.error["hint"]
    assert [(path.name, path.read_text()) for path in run.iterdir()] == [("log.jsonl", "mine")]


def test_a_search_runs_in_one_process(
    searching: Callable[..., list[object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def two(workers: Workers) -> None:
        workers.rank, workers.count = 0, 2

    monkeypatch.setattr(Workers, "__init__", two)
    done = deepalign(*searching(tmp_path / "run", "--json"))

    assert (done.code, done.error["message"]) == (2, "a [search] runs in one process")
    assert not (tmp_path / "run").exists()


# --- docs/training.md -------------------------------------------------------------------------------


def page() -> str:
    return (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("cls", "heading"),
    [
        (Plan, "**`[train]`**:"),
        (RefinerConfig, "**`[refiner]`**"),
        (Search, "**`[search]`**"),
        (UniversalConfig, '`encoder = "universal"`'),
        (DwsConfig, '`encoder = "dws"`'),
        (Task, "**`task`**"),
        (Schedule, "**`[schedule]`**"),
        (AutoencoderPlan, "**`[train]`** of an autoencoder"),
        (ScaleGmnConfig, '`encoder = "scalegmn"`, the'),
    ],
)
def test_every_entry_is_documented_with_its_default(cls: type[Any], heading: str) -> None:
    after = page().split(heading)[1]
    table = re.split(r"\n(?=\*\*|#|For )", after)[0]
    told = {name: default.strip("`") for name, default in re.findall(r"^\| `(\w+)` \| (.+?) \|", table, re.M)}

    fields = {field.name: field for field in dataclasses.fields(cls)}
    assert list(told) == list(fields)
    for name, field in fields.items():
        if field.default is not dataclasses.MISSING:
            default = field.default
            value = json.loads(told[name])
            assert value == (list(default) if isinstance(default, tuple) else default), name
        elif field.default_factory is not dataclasses.MISSING:
            assert json.loads(told[name]) == field.default_factory()
        else:
            assert told[name] == "none"


def test_every_designs_entries_are_documented() -> None:
    table = page().split("| Design | Entries |\n")[1].split("\n\n")[0]
    told = {
        kind: re.findall(r"`(\w+)`", row) for kind, row in re.findall(r"^\| `(\w+)` \| (.+) \|$", table, re.M)
    }
    assert told == {kind: [field.name for field in dataclasses.fields(cls)] for kind, cls in DESIGNS.items()}  # type: ignore[arg-type]


def test_the_recipes_on_the_page_and_the_shipped_ones_are_read() -> None:
    zoo, written, text, training, searched, encoding = re.findall(r"```toml\n(.+?)```", page(), re.DOTALL)
    plans = family_plans({k: v for k, v in tomllib.loads(zoo + written).items() if k != "format"})
    assert len(plans) == 11 + 3
    assert [plan.task.context for plan in family_plans(tomllib.loads(text))] == [64, 64]
    assert make(Search, tomllib.loads(searched)["search"], "").trials == 240
    assert set(tomllib.loads(zoo)) == {"format", "seed", "schedule", "set"}
    table = tomllib.loads(training)
    assert table.pop("format") == 1
    start(*read_plan(table))
    read_autoencoder_plan({k: v for k, v in tomllib.loads(encoding).items() if k != "format"})
    for path in sorted((ROOT / "pretrained").glob("*.toml")):
        recipe = read_recipe(path)
        if path.name.endswith(".zoo.toml"):
            assert family_plans(recipe)
        elif "autoencoder" in recipe:
            read_autoencoder_plan(recipe)
        elif "network" in recipe:
            start(*read_plan(recipe))


def test_the_zoo_of_transformers_has_eight_of_every_kind_of_part() -> None:
    path = ROOT / "benchmarks/transformers.zoo.toml"
    if not path.exists():
        pytest.skip("the benchmarks are not in this copy")
    plans = family_plans(read_recipe(path))
    assert [plan.schedule.networks for plan in plans] == [8] * 6
    assert {plan.task.data for plan in plans} == {"mnist", "fashion", "cifar10", "python"}
    texts, images = (
        [plan.design for plan in plans if bool(plan.task.context) is text] for text in (True, False)
    )
    choices = {
        "norm": {"layer", "rms"},
        "positions": {"learned", "rotary"},
        "feed_forward": {"gelu", "swiglu"},
    }
    for designs in (texts, images):
        assert {part: {getattr(design, part) for design in designs} for part in choices} == choices
    for plan in plans:
        assert plan.design.input_shape[-1] == (plan.task.context or plan.task.side)


def test_the_shipped_autoencoder_is_what_its_recipe_asks_for() -> None:
    folder = ROOT / "pretrained"
    for path in sorted(folder.glob("scalegmn-*.safetensors")):
        table, decoder, plan = read_autoencoder_plan(read_recipe(path.with_suffix(".toml")))
        model = read_autoencoder(path)
        zoo = family_plans(read_recipe(path.with_suffix(".zoo.toml")))[0]
        shapes = {n: tuple(w.shape) for n, w in zoo.design.init(torch.Generator()).items()}
        assert table.items() <= metanetwork_table(model.encoder).items()
        assert model.config == decoder
        assert dict(model.blueprint.symmetry.shapes) == shapes
        assert int(model.facts["step"]) <= plan.steps
        facts, card = model.facts, path.with_suffix(".md").read_text()
        told = (
            f"{float(facts['psnr']):.1f} dB PSNR"
            if "psnr" in facts
            else f"{100 * float(facts['agreement']):.1f} % of test images"
        )
        assert told in card, path.name


def test_the_shipped_refiner_is_what_its_recipe_asks_for() -> None:
    table = read_recipe(ROOT / "pretrained" / "universal-v1-refiner.toml")
    page_table = tomllib.loads(re.findall(r"```toml\n(.+?)```", page(), re.DOTALL)[-2])
    made, shipped = start({}, Plan()).model, load_network(ROOT / "pretrained" / "universal-v1.safetensors")

    assert set(table) == {"refiner", "search"}
    assert {**table, "format": 1} == page_table
    assert (make(Search, table["search"], "search")) == Search(trials=240, images=400, seed=0)
    assert shipped.refiner is not None
    assert add_refiner(made, table["refiner"]).config == shipped.refiner.config

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from deepalign_cli.devices import device_of
from deepalign_cli.errors import CheckpointError, DeepalignError, UsageError
from deepalign_cli.models.designs import Design
from deepalign_cli.models.designs.cnn import CNN
from deepalign_cli.models.designs.siren import Siren
from deepalign_cli.network.saved_autoencoder import load_autoencoder
from deepalign_cli.operations.train import prepare
from deepalign_cli.train.autoencoding import (
    AutoencoderPlan,
    AutoencoderRun,
    load_autoencoder_state,
    read_autoencoder_plan,
    start_autoencoder,
    train_autoencoder,
)
from deepalign_cli.train.corpus import Corpus, load_corpus
from deepalign_cli.train.functional_losses import answer_error, field_error, outputs_of, psnr
from deepalign_cli.train.recipes import read_recipe
from deepalign_cli.train.tasks import Task
from deepalign_cli.train.workers import Workers
from deepalign_cli.train.zoo_files import Family, save_family
from tests.symmetry.builders import seeded
from tests.train.builders import write_data
from tests.train.runs import log_of, toml

AUTOENCODER = {"channels": 4, "layers": 1, "latent": 4, "probes": 6, "frequency": 3.0, "decoder": [8]}
STEPS = {"steps": 8, "rate": 1e-2, "batch": 3, "warmup": 2, "validate_every": 4, "inputs": 20, "augment": 0.1}
SIREN, CONV = (
    Siren((2, 5, 4, 1), 3.0),
    CNN((1, 3, 4), 8, 4, average=True, pools=(), activation="tanh", stride=2),
)


def write_family(folder: Path, design: Design, task: Task, name: str = "family") -> None:
    """A zoo of ten networks that were never trained."""
    nets = [design.init(seeded(i)) for i in range(10)]
    weights = {n: torch.stack([net[n] for net in nets]) for n in nets[0]}
    member = torch.arange(10) if task.field else torch.zeros(10, dtype=torch.long)
    save_family(folder / f"{name}.safetensors", Family(design, task, weights, torch.zeros(10), member))


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A folder with `data`, `zoo` and `recipe.toml`."""
    for name in ("data", "zoo"):
        (tmp_path / name).mkdir()
    write_data(tmp_path / "data")
    write_family(tmp_path / "zoo", SIREN, Task("tiny", side=8, images=10, field=True))
    (tmp_path / "recipe.toml").write_text(toml(autoencoder=AUTOENCODER, train=STEPS))
    return tmp_path


def go(room: Path, out: str, resume: bool = False, stop: int | None = None) -> Any:
    session = prepare(room / "recipe.toml", room / "zoo", room / "data", room / out, resume, Workers())
    return session.go(stop, lambda _step, _words: None)


def parts_of(room: Path) -> tuple[AutoencoderRun, AutoencoderPlan, Corpus]:
    encoder, decoder, plan = read_autoencoder_plan(read_recipe(room / "recipe.toml"))
    corpus = load_corpus(room / "zoo", room / "data")
    return start_autoencoder(encoder, decoder, plan, corpus), plan, corpus


def test_a_run_writes_the_best_autoencoder_and_a_log(room: Path) -> None:
    report = go(room, "run")
    lines = log_of(room / "run")
    assert [line["step"] for line in lines] == [4, 8]
    assert report.score == min(line["error"] for line in lines)
    found = load_autoencoder(str(report.output))
    assert float(found.facts["psnr"]) == pytest.approx(psnr(report.score), abs=1e-3)
    assert str(found.blueprint) == "2-5-4-1 (a sign for each unit)"


def test_a_resumed_run_takes_the_steps_of_an_unbroken_one(room: Path) -> None:
    whole = go(room, "whole")
    go(room, "parts", stop=3)
    resumed = go(room, "parts", resume=True)
    assert resumed.score == whole.score
    assert log_of(room / "parts") == log_of(room / "whole")


def test_training_lowers_the_error(room: Path) -> None:
    (room / "recipe.toml").write_text(toml(autoencoder=AUTOENCODER, train=STEPS | {"steps": 60, "batch": 8}))
    run, plan, corpus = parts_of(room)
    train_autoencoder(run, plan, corpus, room / "run", lambda _step, _words: None)
    lines = log_of(room / "run")
    assert lines[-1]["loss"] < 0.8 * lines[0]["loss"]


def test_classifiers_are_compared_by_their_answers(room: Path) -> None:
    (room / "zoo" / "family.safetensors").unlink()
    write_family(room / "zoo", CONV, Task("tiny", side=8, images=40, test=20))
    report = go(room, "run")
    last = log_of(room / "run")[-1]
    assert 0 <= last["agreement"] <= 1
    assert report.score is not None
    assert "3x3 convolutions, a sign for each unit" in str(load_autoencoder(str(report.output)).blueprint)


def test_classifiers_are_shaken_by_shares_of_their_weights(room: Path) -> None:
    (room / "zoo" / "family.safetensors").unlink()
    write_family(room / "zoo", CONV, Task("tiny", side=8, images=40, test=20))
    _, _, corpus = parts_of(room)
    read = corpus.stack(corpus.train)
    shaken = corpus.shaken(read, 0.1, seeded(0))
    for name, w in read.items():
        apart = ((shaken[name] - w) / w.abs()).std() / 0.1
        assert 0.5 < float(apart) < 1.5


def test_a_decoder_of_classifiers_begins_near_the_best_for_training(room: Path) -> None:
    (room / "zoo" / "family.safetensors").unlink()
    write_family(room / "zoo", CONV, Task("tiny", side=8, images=40, test=20))
    _, _, corpus = parts_of(room)
    score = torch.arange(10.0)  # the best of all is held out
    best = replace(corpus, score=score)
    assert all(
        torch.equal(w, corpus.weights[n][max(corpus.train.tolist())]) for n, w in best.start(0).items()
    )
    assert 9 in corpus.held.tolist()


def test_the_latent_does_not_see_what_the_design_does_not(room: Path) -> None:
    run, _, corpus = parts_of(room)
    symmetry, (net,) = corpus.blueprint.symmetry, [corpus.stack(torch.tensor([0]))]
    one = {n: w[0].double() for n, w in net.items()}
    element = replace(symmetry.random(seeded(1)), shift={})  # phases it does see
    moved = symmetry.apply(element, one)
    model = run.model.double().requires_grad_(False)
    assert torch.allclose(model.latent(symmetry, one), model.latent(symmetry, moved), rtol=0, atol=1e-9)
    out, out_moved = (
        outputs_of(SIREN, {n: w[None] for n, w in x.items()}, corpus.inputs.double()) for x in (one, moved)
    )
    assert torch.allclose(out, out_moved, rtol=0, atol=1e-9)


def test_moved_fields_are_the_fields_at_moved_places(room: Path) -> None:
    _, _, corpus = parts_of(room)
    weights = {n: w.double() for n, w in corpus.stack(torch.arange(3)).items()}
    moved = corpus.moved(weights, 0.2, seeded(1))
    draw = (2 * torch.rand(3, 2, 3, generator=seeded(1)) - 1).double() * 0.2
    x = corpus.inputs.double()
    for k in range(3):
        places = x @ (0.9 * torch.eye(2).double() + draw[k, :, :2] / 2).T + draw[k, :, 2]
        one = {n: w[k : k + 1] for n, w in weights.items()}
        expected = outputs_of(SIREN, one, places)[0]
        found = outputs_of(SIREN, {n: w[k : k + 1] for n, w in moved.items()}, x)[0]
        assert torch.allclose(found, expected, rtol=0, atol=1e-9)


def test_whole_images_are_held_out(room: Path) -> None:
    corpus = load_corpus(room / "zoo", room / "data")
    assert corpus.held.tolist() == [8, 9]
    assert corpus.train.tolist() == list(range(8))


def test_errors_are_what_their_names_say() -> None:
    a, b = torch.zeros(2, 3, 1), torch.full((2, 3, 1), 0.5)
    assert field_error(a, b).tolist() == [0.25, 0.25]
    assert psnr(0.04) == pytest.approx(20.0)
    logits = torch.randn(2, 5, 4, generator=seeded(1))
    assert float(answer_error(logits, logits, 0.6).abs().max()) < 1e-6
    p, q = (torch.softmax(x / 0.6, -1) for x in (logits, -logits))
    expected = 0.36 * (p * (p / q).log()).sum(-1).mean(1)
    assert torch.allclose(answer_error(-logits, logits, 0.6), expected, atol=1e-5)


Change = Callable[[Path], None]


def _other_design(room: Path) -> None:
    write_family(room / "zoo", Siren((2, 4, 1)), Task("tiny", side=8, images=10, field=True), "second")


def _recipe(**tables: dict[str, Any]) -> Change:
    return lambda room: (room / "recipe.toml").write_text(toml(**tables)) and None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_other_design, "another design or task"),
        (_recipe(autoencoder={"encoder": "cnn"}), "there is no encoder 'cnn'"),
        (_recipe(autoencoder={"channels": 0}), "channels must be an integer of at least 1"),
        (_recipe(autoencoder={"decoder": [0]}), "hidden must be a list of positive integers"),
        (_recipe(autoencoder={"width": 3}), "'width' is not an entry"),
        (_recipe(autoencoder={}, train={"augment": 1.5}), "augment must be below 1"),
        (_recipe(autoencoder={}, train={"steps": 0}), "steps must be an integer of at least 1"),
        (_recipe(autoencoder={}, network={}), "both a [network] and an [autoencoder]"),
        (_recipe(autoencoder={}, search={}, refiner={}), "an [autoencoder] and a [refiner] or [search]"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_is_written(
    room: Path, change: Change, words: str
) -> None:
    change(room)
    with pytest.raises(UsageError) as caught:
        go(room, "run")
    assert words in caught.value.message
    assert not (room / "run").exists()


def test_a_run_is_resumed_by_its_own_recipe_only(room: Path) -> None:
    go(room, "run", stop=2)
    (room / "recipe.toml").write_text(toml(autoencoder=AUTOENCODER, train=STEPS | {"batch": 4}))
    with pytest.raises(UsageError, match="another plan"):
        go(room, "run", resume=True)


def test_a_broken_state_is_named(room: Path) -> None:
    run, plan, corpus = parts_of(room)
    (room / "last.pt").write_bytes(b"no state")
    with pytest.raises(CheckpointError, match="not a complete state"):
        load_autoencoder_state(run, plan, corpus, room / "last.pt")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "cpu:x", "cuda-1", "mps:7", ""])
def test_devices_that_are_not_there_are_named(name: str) -> None:
    with pytest.raises(DeepalignError, match="device"):
        device_of(name)


def test_aligners_are_trained_on_the_cpu(room: Path) -> None:
    (room / "recipe.toml").write_text(toml(network={"channels": 8}))
    with pytest.raises(UsageError, match="--device cuda is for zoos and autoencoders"):
        prepare(
            room / "recipe.toml", room / "zoo", room / "data", room / "run", False, Workers(), device="cuda"
        )


def test_the_log_is_plain_json(room: Path) -> None:
    go(room, "run", stop=4)
    (line,) = (room / "run" / "log.jsonl").read_text().splitlines()
    assert json.loads(line).keys() == {"step", "seconds", "loss", "error", "psnr", "best"}

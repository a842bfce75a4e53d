from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from deepalign_cli.errors import UsageError
from deepalign_cli.network.saved import load_network
from deepalign_cli.train.loop import Plan, pair_losses, read_plan, start
from deepalign_cli.train.recipes import read_recipe
from deepalign_cli.train.workers import Workers
from tests.train.runs import NETWORK, STEPS, log_of, read_pool, toml, write_zoo

ROOT = Path(__file__).parents[2]
LAUNCH = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no",
          "--dynamo_backend", "no", "--main_process_port", "0"]  # fmt: skip
NAMES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "MASTER_ADDR")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, "ACCELERATE_USE_CPU"):
        monkeypatch.delenv(name, raising=False)


def test_one_process_needs_no_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    workers, model = Workers(), nn.Linear(2, 1)
    model.weight.grad = torch.tensor([[1.0, 2.0]])

    workers.average(model)
    workers.wait()
    workers.leave()

    assert (workers.rank, workers.count) == (0, 1)
    assert model.weight.grad.tolist() == [[1.0, 2.0]]
    assert model.bias.grad is None


@pytest.mark.parametrize("name", NAMES[:-1])
def test_several_processes_without_accelerate_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)

    with pytest.raises(UsageError, match="accelerate") as caught:
        Workers()
    assert caught.value.hint == "pip install 'deepalign[train]'"


def test_a_launcher_that_starts_one_process_for_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # What `accelerate launch --cpu --num_processes 2` leaves in the environment.
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    assert Workers().count == 1  # --num_processes 1
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")

    with pytest.raises(UsageError, match="one process only"):
        Workers()


def averaged(folder: Path, plan: Plan, ranks: int) -> Mapping[str, Tensor]:
    """The weights after a run whose every step follows the mean of the workers' gradients, by hand."""
    pool, run = read_pool(folder), start(NETWORK, plan)
    parameters = list(run.model.parameters())
    for step in range(plan.steps):
        total = [torch.zeros_like(p) for p in parameters]
        for rank in range(ranks):
            rng = torch.Generator().manual_seed((2654435761 * rank + step) % 2**32)
            entry = pool[int(torch.multinomial(torch.ones(len(pool)), 1, generator=rng))]
            parts = pair_losses(run.model, plan, entry, rng, step)
            loss = torch.stack(list(parts.values())).sum()  # the weights are all 1
            found = torch.autograd.grad(loss, parameters, allow_unused=True)
            total = [t if g is None else t + g for t, g in zip(total, found, strict=True)]
        for parameter, gradient in zip(parameters, total, strict=True):
            parameter.grad = gradient / ranks
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        run.optimiser.step()
        run.schedule.step()
    return dict(run.model.state_dict())


def furthest(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.slow
def test_two_processes_follow_the_mean_of_their_gradients(tmp_path: Path) -> None:
    folder, out = write_zoo(tmp_path), tmp_path / "run"
    (folder / "recipe.toml").write_text(
        toml(network=NETWORK, train={**STEPS, "steps": 10, "validate_every": 10})
    )
    words = ["train", folder / "recipe.toml", "--zoo", folder / "zoo", "--data", folder / "data"]

    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *LAUNCH, "-m", "deepalign_cli", *words,
         "--out", out, "--json"],
        capture_output=True, text=True, cwd=ROOT, check=False, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 10  # one object, of one process
    assert [line["step"] for line in log_of(out)] == [10]
    _, plan = read_plan(read_recipe(folder / "recipe.toml"))
    found = load_network(out / "best.safetensors").state_dict()
    assert furthest(found, averaged(folder, plan, ranks=2)) < 1e-5
    assert furthest(found, averaged(folder, plan, ranks=1)) > 1e-3

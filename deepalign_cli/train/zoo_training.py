"""Training a zoo: every family of a recipe, the networks of each all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from deepalign_cli.cluster import Cluster
from deepalign_cli.errors import ClusterError, UsageError, one_line
from deepalign_cli.models.designs import Design
from deepalign_cli.symmetry.tensor_names import is_statistic
from deepalign_cli.train.plans import FamilyPlan, Schedule, family_plans
from deepalign_cli.train.recipes import read_recipe
from deepalign_cli.train.tasks import Examples, Task, load_examples
from deepalign_cli.train.zoo_files import Family, open_family, save_family, subject_of
from deepalign_cli.train.zoo_losses import batch_of, losses, scores, statistics_of

_CPU = torch.device("cpu")
_TOGETHER = 256  # networks trained side by side: more need more memory, and are no faster


@dataclass(frozen=True)
class FamilyTask:
    """A family that is to be trained on the data sets of a folder, into a file, on a device."""

    plan: FamilyPlan
    data: Path
    path: Path
    device: str


def train_zoo(
    recipe: Path, data: Path, out: Path, advance: Callable[[str, float], None],
    device: torch.device = _CPU, connect: Callable[[], AbstractContextManager[Cluster]] | None = None,
) -> int:  # fmt: skip
    """Train every family of a recipe into `out`, one file each; families whose file is there are left.

    `advance` is told the family's name and the share of all work that is done. Returns the number of
    families. All that can be wrong with the recipe and the data is found before anything is trained. The
    workers of the cluster that `connect` gives, if it is there, train a family each, in one thread.

    Raises:
        UsageError: the recipe or the data cannot be used, or a file is of another family than the recipe's.
        CheckpointError: a file that is there is no family's. OutputError: a file cannot be written.
        ClusterError: the workers are gone, or do not see the folders.
    """
    plans = family_plans(read_recipe(recipe))
    missing = [plan for plan in plans if not _is_there(plan, out / f"{plan.name}.safetensors")]
    for task in dict.fromkeys(plan.task for plan in missing):
        examples = load_examples(task, data)
        for plan in missing:
            if plan.task == task:
                _check_fits(plan, examples)
    out.mkdir(parents=True, exist_ok=True)
    if connect is not None and missing:
        with connect() as cluster:
            _train_on(cluster, missing, (data, out), device, len(plans), advance)
        return len(plans)
    for number, plan in enumerate(plans):
        if plan in missing:

            def progress(share: float, name: str = plan.name, number: int = number) -> None:
                advance(name, (number + share) / len(plans))

            train_task(FamilyTask(plan, data, out / f"{plan.name}.safetensors", str(device)), progress)
        advance(plan.name, (number + 1) / len(plans))
    return len(plans)


def _train_on(
    cluster: Cluster, missing: Sequence[FamilyPlan], folders: tuple[Path, Path], device: torch.device,
    count: int, advance: Callable[[str, float], None],
) -> None:  # fmt: skip
    """Have the families that are missing trained."""
    data, out = (folder.absolute() for folder in folders)
    cluster.check_shared(sorted(path for path in data.iterdir() if path.is_file()), out)
    tasks = [FamilyTask(plan, data, out / f"{plan.name}.safetensors", str(device)) for plan in missing]
    for number, (task, _) in enumerate(cluster.run(train_alone, tasks), 1 + count - len(missing)):
        if not task.path.exists():
            problem = f"a worker has written '{task.path}' into a folder that is not the one here."
            raise ClusterError(problem, "--out must be a folder that all hosts mount at the same path.")
        advance(task.plan.name, number / count)


def train_alone(task: FamilyTask) -> None:
    """Train a family on a worker, which may have others to train: in one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train_task(task)
    finally:
        torch.set_num_threads(before)


def train_task(task: FamilyTask, progress: Callable[[float], None] = lambda _: None) -> None:
    """Train a family and write it, in the place of what another worker may have written meanwhile."""
    plan, examples = task.plan, load_examples(task.plan.task, task.data)
    device = torch.device(task.device)
    family = train_family(plan.design, plan.task, examples, plan.schedule, plan.seed, progress, device)
    save_family(task.path, family, force=True)


def _is_there(plan: FamilyPlan, path: Path) -> bool:
    """Whether a family's file is there, and not another family's."""
    if not path.exists():
        return False
    file = open_family(path)
    design, task = subject_of(file, path)
    differs = {
        "design": design != plan.design,
        "task": task != plan.task,
        "number of networks": file.infos["score"].shape != (plan.schedule.networks,),
    }
    for what in filter(differs.__getitem__, differs):
        raise UsageError(
            f"'{path}' was trained with another {what} than the recipe's.",
            "delete it to train the family again, or give another --out.",
        )
    return True


def _check_fits(plan: FamilyPlan, examples: Examples) -> None:
    """Raise UsageError unless a design takes the task's inputs and has an output for each label."""
    hint = "compare the design with side, grey, field and context of the task."
    try:
        outputs = plan.design(plan.design.init(torch.Generator()), examples.train_x[:2], {}).shape[-1]
    except (RuntimeError, ValueError, LookupError) as error:
        message = f"the design of '{plan.name}' does not take its inputs: {one_line(error)}."
        raise UsageError(message, hint) from None
    needed = 1 if plan.task.field else int(max(examples.train_y.max(), examples.test_y.max())) + 1
    if outputs < needed or (plan.task.field and outputs > 1):
        raise UsageError(f"the design of '{plan.name}' has {outputs} outputs but needs {needed}.", hint)


def train_family(
    design: Design, task: Task, examples: Examples, schedule: Schedule, seed: int,
    progress: Callable[[float], None] = lambda _: None, device: torch.device = _CPU,
) -> Family:  # fmt: skip
    """Train `schedule.networks` networks at once, each from its own initialisation, in its own data order.

    What is drawn is drawn on the CPU, whatever the device, and the family is there in the end. Where they
    have a common parent, it is trained first, on all images.
    """
    rng = torch.Generator().manual_seed(seed)
    member = (
        torch.arange(schedule.networks) % schedule.members
        if task.field
        else torch.zeros(schedule.networks, dtype=torch.long)
    )
    most = schedule.networks if schedule.common else _TOGETHER
    examples, parts, trained = examples.on(device), [], 0
    for of_part in torch.split(member, most):

        def part_done(share: float, before: int = trained, count: int = len(of_part)) -> None:
            progress((before + share * count) / schedule.networks)

        parts.append(_train_part(design, task, examples, schedule, of_part, rng, part_done))
        trained += len(of_part)
    settled = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    score = scores(design, task, settled, examples, member.to(device)).cpu()
    on_cpu = {name: w.cpu() for name, w in settled.items()}
    return Family(design, task, on_cpu, score, member, schedule.common)


def _train_part(
    design: Design, task: Task, examples: Examples, schedule: Schedule, member: Int64[Tensor, " networks"],
    rng: torch.Generator, progress: Callable[[float], None],
) -> dict[str, Tensor]:  # fmt: skip
    """Fresh networks, trained side by side, with their statistics."""
    count, common = len(member), schedule.common
    fresh = [_grown(design.init(rng), schedule.gain) for _ in range(1 if common else count)]
    device = examples.train_x.device
    weights = {name: torch.stack([net[name] for net in fresh]).to(device) for name in fresh[0]}
    steps = max(1, round(schedule.epochs * schedule.share * len(examples.train_x) / schedule.batch))
    if common:
        past = max(1, round(common * steps))
        alone = replace(schedule, share=1.0)
        _train(design, task, examples, alone, weights, member[:1], past, rng, lambda _: None)
        weights = {name: w.detach().repeat(count, *[1] * (w.ndim - 1)) for name, w in weights.items()}
        steps = max(1, steps - past)
    _train(design, task, examples, schedule, weights, member, steps, rng, progress)
    settled = {n: w.detach() for n, w in weights.items()}
    return settled | statistics_of(design, settled, examples)


def _grown(network: Mapping[str, Tensor], gain: float) -> dict[str, Tensor]:
    """A fresh network whose matrices and kernels are so many times as large."""
    return {name: w * gain if w.ndim > 1 else w for name, w in network.items()}


def _train(
    design: Design, task: Task, examples: Examples, schedule: Schedule, weights: Mapping[str, Tensor],
    member: Int64[Tensor, " networks"], steps: int, rng: torch.Generator, progress: Callable[[float], None],
) -> None:  # fmt: skip
    """Train a stack of networks in place for so many steps."""
    trained = {n: w.requires_grad_() for n, w in weights.items() if not is_statistic(n)}
    optimiser = torch.optim.Adam(trained.values(), lr=schedule.rate, fused=True)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, eta_min=schedule.rate / 50)
    for step, rows in enumerate(_orders(len(examples.train_x), len(member), schedule, steps, rng)):
        x, y = batch_of(examples, task, rows.to(examples.train_x.device), member.to(examples.train_y.device))
        optimiser.zero_grad()
        torch.autograd.backward(losses(design, task, trained, x, y, schedule.half).sum())
        optimiser.step()
        rate.step()
        if step % 20 == 0:
            progress(step / steps)


def _orders(
    examples: int, networks: int, schedule: Schedule, steps: int, rng: torch.Generator
) -> Iterator[Int64[Tensor, "networks batch"]]:
    """Rows of examples, every network's own share in its own order, reshuffled every epoch."""
    count = max(1, round(schedule.share * examples))
    batch = min(schedule.batch, count)
    shares = [
        torch.randperm(examples, generator=rng)[:count] if count < examples else torch.arange(examples)
        for _ in range(networks)
    ]
    for step in range(steps):
        start = step % (count // batch) * batch
        if not start:
            order = torch.stack([rows[torch.randperm(count, generator=rng)] for rows in shares])
        yield order[:, start : start + batch]

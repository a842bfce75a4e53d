"""Training many networks of one design at once: stacked weights, one batched step for all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.func import vmap
from torch.nn import functional

from deepalign_cli.checkpoint import Checkpoint, Entry, open_checkpoint, write_safetensors
from deepalign_cli.errors import CheckpointError, UsageError
from deepalign_cli.models.designs import Design, Statistics, config_of, design_of
from deepalign_cli.symmetry.tensor_names import is_statistic
from deepalign_cli.train.plans import FamilyPlan, Schedule, family_plans
from deepalign_cli.train.recipes import read_recipe
from deepalign_cli.train.tasks import Examples, Task, load_examples

FORMAT = "1"
ZOO_KEY = "deepalign.zoo"
_STATISTICS_IMAGES = 2000


@dataclass(frozen=True)
class Family:
    """Some trained networks of one design on one task, stacked along the first axis.

    `member` says which networks belong together (the image of a field; else 0), `score` is the test
    accuracy (for a field, minus its mean squared error).
    """

    design: Design
    task: Task
    weights: Mapping[str, Float[Tensor, "networks ..."]]
    score: Float[Tensor, " networks"]
    member: Int64[Tensor, " networks"]

    def network(self, index: int) -> dict[str, Tensor]:
        """The weights of one network."""
        return {name: w[index] for name, w in self.weights.items()}


def train_zoo(recipe: Path, data: Path, out: Path, advance: Callable[[str, float], None]) -> int:
    """Train every family of a recipe into `out`, one file each; families whose file is there are left.

    `advance` is told the family's name and the share of all work that is done. Returns the number of
    families. All that can be wrong with the recipe and the data is found before anything is trained.

    Raises:
        UsageError: the recipe or the data cannot be used, or a file is of another family than the recipe's.
        CheckpointError: a file that is there is no family's. OutputError: a file cannot be written.
    """
    plans = family_plans(read_recipe(recipe))
    missing = [plan for plan in plans if not _is_there(plan, out / f"{plan.name}.safetensors")]
    for task in dict.fromkeys(plan.task for plan in missing):
        examples = load_examples(task, data)
        for plan in missing:
            if plan.task == task:
                _check_fits(plan, examples)
    out.mkdir(parents=True, exist_ok=True)
    for number, plan in enumerate(plans):
        if plan in missing:

            def progress(share: float, name: str = plan.name, number: int = number) -> None:
                advance(name, (number + share) / len(plans))

            examples = load_examples(plan.task, data)
            family = train_family(plan.design, plan.task, examples, plan.schedule, plan.seed, progress)
            save_family(out / f"{plan.name}.safetensors", family)
        advance(plan.name, (number + 1) / len(plans))
    return len(plans)


def _is_there(plan: FamilyPlan, path: Path) -> bool:
    """Whether a family's file is there, and not another family's."""
    if not path.exists():
        return False
    file = _opened(path)
    design, task = _subject(file, path)
    changed = {
        "design": design != plan.design,
        "task": task != plan.task,
        "number of networks": file.infos["score"].shape != (plan.schedule.networks,),
    }
    for what, differs in changed.items():
        if differs:
            raise UsageError(
                f"'{path}' was trained with another {what} than the recipe's.",
                "delete it to train the family again, or take another --out.",
            )
    return True


def _check_fits(plan: FamilyPlan, examples: Examples) -> None:
    """See that a design takes the task's inputs and has an output for each label.

    Raises:
        UsageError: it does not.
    """
    hint = "compare the design with side, grey and field of the task."
    try:
        outputs = plan.design(plan.design.init(torch.Generator()), examples.train_x[:2], {}).shape[1]
    except (RuntimeError, ValueError, LookupError) as error:
        problem = " ".join(str(error).split())
        raise UsageError(f"the design of '{plan.name}' does not take its images: {problem}.", hint) from None
    needed = 1 if plan.task.field else int(max(examples.train_y.max(), examples.test_y.max())) + 1
    if outputs < needed or (plan.task.field and outputs > 1):
        raise UsageError(
            f"the design of '{plan.name}' has {outputs} outputs where {needed} are needed.", hint
        )


def train_family(
    design: Design, task: Task, examples: Examples, schedule: Schedule, seed: int,
    progress: Callable[[float], None] = lambda _: None,
) -> Family:  # fmt: skip
    """Train `schedule.networks` networks at once, each from its own initialisation, in its own data order."""
    rng = torch.Generator().manual_seed(seed)
    count = schedule.networks
    fresh = [design.init(rng) for _ in range(count)]
    weights = {name: torch.stack([net[name] for net in fresh]) for name in fresh[0]}
    trained = {n: w.requires_grad_() for n, w in weights.items() if not is_statistic(n)}
    member = torch.arange(count) % schedule.members if task.field else torch.zeros(count, dtype=torch.long)
    optimiser = torch.optim.Adam(trained.values(), lr=schedule.rate, fused=True)
    steps = max(1, round(schedule.epochs * len(examples.train_x) / schedule.batch))
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, eta_min=schedule.rate / 50)
    for step, rows in enumerate(_orders(len(examples.train_x), count, schedule.batch, steps, rng)):
        x, y = batch_of(examples, task, rows, member)
        optimiser.zero_grad()
        torch.autograd.backward(losses(design, task, trained, x, y).sum())
        optimiser.step()
        rate.step()
        if step % 20 == 0:
            progress(step / steps)
    settled = {n: trained.get(n, w).detach() for n, w in weights.items()}
    settled |= _statistics(design, settled, examples)
    return Family(design, task, settled, _scores(design, task, settled, examples, member), member)


def batch_of(
    examples: Examples, task: Task, rows: Int64[Tensor, "networks batch"], member: Int64[Tensor, " networks"]
) -> tuple[Tensor, Tensor]:
    """Inputs and answers of some training examples for every network."""
    answers = examples.train_y
    return examples.train_x[rows], answers[member[:, None], rows] if task.field else answers[rows]


def losses(
    design: Design, task: Task, weights: Mapping[str, Tensor], x: Tensor, y: Tensor
) -> Float[Tensor, " networks"]:
    """The training loss of every network on its own batch: cross-entropy, or a field's squared error."""

    def one(w: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        out = design(w, x, {})
        return functional.mse_loss(out[:, 0], y) if task.field else functional.cross_entropy(out, y)

    made: Tensor
    if len(design.input_shape) == 1 or "embed.weight" in weights:
        made = vmap(one)(dict(weights), x, y)
    else:  # a CPU has nothing to gain from batching the convolutions of several networks
        parts = zip(*(w.unbind() for w in weights.values()), strict=True)
        nets = (dict(zip(weights, part, strict=True)) for part in parts)
        made = torch.stack([one(net, _last(a), b) for net, a, b in zip(nets, x, y, strict=True)])
    return made


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _orders(
    examples: int, networks: int, batch: int, steps: int, rng: torch.Generator
) -> Iterator[Int64[Tensor, "networks batch"]]:
    """Rows of examples, every network in its own order, reshuffled every epoch."""
    batch, made = min(batch, examples), 0
    while True:
        order = torch.stack([torch.randperm(examples, generator=rng) for _ in range(networks)])
        for start in range(0, examples - batch + 1, batch):
            yield order[:, start : start + batch]
            made += 1
            if made == steps:
                return


def _statistics(design: Design, weights: Mapping[str, Tensor], examples: Examples) -> dict[str, Tensor]:
    """BatchNorm's running statistics of the finished networks, over some training images."""
    if not any(map(is_statistic, weights)):
        return {}

    def one(w: Mapping[str, Tensor]) -> Statistics:
        found = {name: v.clone() for name, v in w.items() if is_statistic(name)}
        design(w, examples.train_x[:_STATISTICS_IMAGES], found)
        return found

    with torch.no_grad():
        count = len(next(iter(weights.values())))
        parts = [one({n: w[i] for n, w in weights.items()}) for i in range(count)]
    return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}


@torch.no_grad()
def _scores(
    design: Design, task: Task, weights: Mapping[str, Tensor], examples: Examples, member: Tensor
) -> Float[Tensor, " networks"]:
    scores = []
    for index, image in enumerate(member):
        out = design({n: w[index] for n, w in weights.items()}, examples.test_x)
        if task.field:
            scores.append(-(out[:, 0] - examples.test_y[image]).square().mean())
        else:
            scores.append((out.argmax(1) == examples.test_y).float().mean())
    return torch.stack(scores)


def save_family(path: Path, family: Family) -> None:
    """Write a family as safetensors.

    Raises:
        OutputError: it cannot be written.
    """
    tensors = {f"weights/{name}": w.contiguous() for name, w in family.weights.items()}
    tensors |= {"score": family.score, "member": family.member}
    codes = {torch.float32: "F32", torch.int64: "I64"}
    entries = [Entry(name, codes[t.dtype], tuple(t.shape)) for name, t in tensors.items()]
    metadata = {
        ZOO_KEY: FORMAT,
        "design": json.dumps(config_of(family.design)),
        "task": json.dumps(asdict(family.task)),
    }
    write_safetensors(path, entries, tensors.__getitem__, metadata)


def load_family(path: Path) -> Family:
    """Read a family back.

    Raises:
        UsageError: there is no such file. CheckpointError: it is not a zoo's, or of another format.
    """
    file = _opened(path)
    design, task = _subject(file, path)
    weights = {n.removeprefix("weights/"): file[n].clone() for n in file if n.startswith("weights/")}
    return Family(design, task, weights, file["score"].clone(), file["member"].clone())


def _opened(path: Path) -> Checkpoint:
    file = open_checkpoint(path)
    if file.metadata.get(ZOO_KEY) != FORMAT:
        raise CheckpointError(f"'{path}' is not a file of a zoo that this version reads.", "`deepalign zoo`.")
    for name in ("score", "member"):
        if name not in file:
            raise CheckpointError(
                f"'{path}' is not a whole file of a zoo: {name} is missing.", "`deepalign zoo`."
            )
    return file


def _subject(file: Checkpoint, path: Path) -> tuple[Design, Task]:
    """The design and the task of a family's file."""
    try:
        design, task = json.loads(file.metadata["design"]), json.loads(file.metadata["task"])
        return design_of(design), Task(**task)
    except (AttributeError, KeyError, TypeError, ValueError, UsageError) as error:
        raise CheckpointError(
            f"'{path}' is not a whole file of a zoo: {error}.", "`deepalign zoo`."
        ) from None

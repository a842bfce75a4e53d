"""The methods that `alignment.py` compares: a name -> a function from a pair to an element."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from sinkhorn_rebasin import Problem, Rebasin
from torch import Tensor

from deepalign_cli.aligners.activations import ActivationMatching
from deepalign_cli.aligners.alignment import Aligner
from deepalign_cli.aligners.deepalign import LearnedAligner
from deepalign_cli.aligners.dual import DualMatching
from deepalign_cli.aligners.evidence import Evidence
from deepalign_cli.aligners.gains import Gains
from deepalign_cli.aligners.sinkhorn import SinkhornRebasin
from deepalign_cli.aligners.weights import WeightMatching, descend
from deepalign_cli.assignment import assign
from deepalign_cli.checkpoint.memory import MemoryCheckpoint
from deepalign_cli.data.dataset import Data, Part
from deepalign_cli.data.preparation import Preparation
from deepalign_cli.models.lookup import Network
from deepalign_cli.models.runnable import Runnable
from deepalign_cli.network.graph import Graph
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.similarity import similarities
from deepalign_cli.operations.dreaming import Dreamer
from deepalign_cli.operations.run_settings import RunSettings
from deepalign_cli.operations.settings import Settings
from deepalign_cli.operations.testbed import open_testbed
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.train.tasks import Examples
from deepalign_cli.train.zoo_files import Family

SKETCHES = 8
CHUNK = 500  # images at a time
SLOW = "sinkhorn"


@dataclass(frozen=True)
class Context:
    """One pair: `b` is to be carried onto `a`. `member` is the field's image; `rng` begins anew each time."""

    graph: Graph
    family: Family
    examples: Examples
    a: Weights
    b: Weights
    member: int
    rng: torch.Generator

    @property
    def symmetry(self) -> Symmetry:
        return self.graph.symmetry


Method = Callable[[Context], Element]


def method_table(
    network: DeepAlign | None = None, dws: DeepAlign | None = None, rebasin: Rebasin | None = None
) -> dict[str, Method]:
    """All methods by name; those of a trained network only where there is one."""
    table: dict[str, Method] = {
        "none": lambda context: context.symmetry.identity(),
        "weights": aligner(WeightMatching(restarts=5)),
        "activations": activations,
        "dual": lambda context: aligner(DualMatching(all_images(context)))(context),
        SLOW: lambda context: problem_of(context).rebasin(rebasin or Rebasin(), context.rng),
    }
    if dws is not None:
        table["dws"] = lambda context: predicted(dws, context, [0])
    if network is not None:
        table["universal, 1 sketch"] = lambda context: predicted(network, context, [0])
        table["universal"] = lambda context: predicted(network, context)
        table["universal + weights"] = lambda context: refined(network, context)
        table["prior"] = aligner(LearnedAligner(network, refine="prior"))
        table["no dreams"] = aligner(LearnedAligner(network))
        table["default"] = lambda context: dreaming(network, context)
        table["default, data"] = lambda context: with_data(network, context)
        table["ste"] = lambda context: with_data(network, context, "ste")
        table["sinkhorn, start"] = lambda context: aligner(SinkhornRebasin(labelled(context)))(context)
    return table


def aligner(method: Aligner) -> Method:
    """An aligner of the library as a method."""
    return lambda context: method(context.symmetry, context.a, context.b, rng=context.rng).element


def activations(context: Context) -> Element:
    """Activation matching on all training images of the task."""
    return aligner(ActivationMatching(all_images(context)))(context)


def all_images(context: Context) -> Evidence:
    """The network, and all training images to run it on."""
    return Evidence(context.family.design, lambda: context.examples.train_x.split(CHUNK))


def network_of(context: Context) -> Network:
    """The family's network as the commands have it."""
    design = context.family.design
    return Network(Runnable(design, design.input_shape), "a network of the zoo", design.input_shape)


def dreaming(network: DeepAlign, context: Context) -> Element:
    """What `deepalign align A B` does."""
    pair = [MemoryCheckpoint(weights, name) for weights, name in ((context.a, "A"), (context.b, "B"))]
    opened = network_of(context)
    dreamer = Dreamer(pair, RunSettings(), Settings(), lambda: opened, is_asked=False)
    return aligner(LearnedAligner(network, dreaming=dreamer.evidence))(context)


def with_data(network: DeepAlign, context: Context, refine: str = "auto") -> Element:
    """What `deepalign align A B --data D --refine auto` or `ste` does."""
    return aligner(LearnedAligner(network, refine=refine, evidence=labelled(context)))(context)


def labelled(context: Context) -> Evidence:
    """The network, all training images and their labels, as `--data` makes them."""
    examples, field = context.examples, context.family.task.field
    labels = examples.train_y[context.member].unsqueeze(-1) if field else examples.train_y
    part = Part(examples.train_x, labels)
    data = Data("the task", "", {"": part}, torch.arange(len(part)), Preparation())
    reference = MemoryCheckpoint(context.a, "A")
    running = RunSettings(data="the task")
    return open_testbed(reference, running, network=network_of(context), data=data).evidence


def problem_of(context: Context) -> Problem:
    """The pair as Sinkhorn re-basin takes it."""
    return Problem(context.symmetry, context.family, context.examples, context.a, context.b, context.member)


@torch.no_grad()
def prediction(
    network: DeepAlign, graph: Graph, a: Weights, b: Weights, seeds: Sequence[int] = range(SKETCHES)
) -> Mapping[str, Float[Tensor, "n n"]]:
    """The network's similarities of the units of two networks, averaged over sketches."""
    features = [
        network.encode(graph, {n: w.unsqueeze(0) for n, w in weights.items()}, list(seeds))
        for weights in (a, b)
    ]
    return {g: s.mean(0).float() for g, s in similarities(*features).items()}


def predicted(network: DeepAlign, context: Context, seeds: Sequence[int] = range(SKETCHES)) -> Element:
    """The network's prediction, rounded."""
    found = prediction(network, context.graph, context.a, context.b, seeds)
    return Element({g: assign(s) for g, s in found.items()})


def refined(network: DeepAlign, context: Context) -> Element:
    """One descent of weight matching from the prediction."""
    start = predicted(network, context)
    return descend(Gains(context.symmetry, context.a, context.b), start, context.rng)[0]

"""Modules as functions of their weights: the user's factories, and the networks of other sources."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.func import functional_call

from deepalign_cli.checkpoint.names import common_prefix, logical_names
from deepalign_cli.errors import MismatchError, UsageError
from deepalign_cli.models.example import Example, example_of
from deepalign_cli.models.fitting import Shape, check_fit
from deepalign_cli.symmetry.symmetry import Weights
from deepalign_cli.symmetry.tensor_names import is_counter
from deepalign_cli.user_code import call_factory

_HINT = "give --model path/to/file.py:factory, where factory() returns the network as an nn.Module."
_SAME = "the factory must build this very architecture."


def make_module(reference: str, args: Mapping[str, str] | None = None) -> tuple[nn.Module, Example | None]:
    """The network that the user's factory makes, in evaluation mode. This runs their code.

    A factory may return example inputs beside it: `(module, inputs)`, where these are a tensor, a tuple of
    what the module is called with, or a dict by name.

    Raises:
        UsageError: there is no such file or factory, or it does not return an `nn.Module`.
        DeepalignError: the user's code raised.
    """
    model = call_factory(reference, args or {}, _HINT)
    inputs: object = None
    if isinstance(model, tuple) and len(model) == 2:
        model, inputs = model
    if not isinstance(model, nn.Module):
        raise UsageError(f"'{reference}' returned {type(model).__name__}, not an nn.Module.", _HINT)
    return model.eval(), None if inputs is None else example_of(inputs)


def shapes_of(model: nn.Module) -> dict[str, Shape]:
    """The shapes of a model's parameters and persistent buffers.

    Raises:
        UsageError: a lazy layer does not know its size.
    """
    tensors = {name: w for name, w in model.state_dict().items() if isinstance(w, Tensor)}
    lazy = [n for n, w in tensors.items() if nn.parameter.is_lazy(w)]
    if lazy:
        raise UsageError(f"the model's '{lazy[0]}' has no shape yet.", "give its layer its sizes.")
    return {name: tuple(w.shape) for name, w in tensors.items()}


class ModuleRun:
    """A module as a `Run`, by `torch.func.functional_call`, with weights under a checkpoint's names.

    `names` has the module's name of each of the checkpoint's tensors; tensors without one are not used.
    Where the module ties tensors, any one of their names will do, and all that are given must be equal.
    The module's own parameters are let go: they take no memory. What no checkpoint holds is the module's
    own, brought to the weights' type and device for each call. `example` are inputs that it takes, where
    they are known.
    """

    def __init__(self, module: nn.Module, names: Mapping[str, str], example: Example | None = None) -> None:
        self.module, self.names = module, names
        self.example = example
        self.ties = _ties(module)
        supplied = set(names.values())
        supplied |= {name for tied in self.ties if supplied.intersection(tied) for name in tied}
        tensors = [*module.named_parameters(), *module.named_buffers()]
        self._rest = {name: w for name, w in tensors if name not in supplied}
        self._cast: tuple[torch.dtype | None, torch.device | None, dict[str, Tensor]] = None, None, {}
        _let_go(module, supplied)
        for norm in module.modules():
            if isinstance(norm, nn.GroupNorm):
                norm.register_forward_pre_hook(_contiguous)

    def __call__(self, weights: Weights, x: Shaped[Tensor, "batch ..."]) -> Shaped[Tensor, " ..."]:
        own = {self.names[name]: w for name, w in weights.items() if name in self.names}
        rest = self._rest_like(own)
        for tied in self.ties:
            _give_once(own, [name for name in tied if name in own])
        return output_of(functional_call(self.module, {**rest, **own}, (x,)))

    def _rest_like(self, own: Weights) -> dict[str, Tensor]:
        """What no checkpoint holds, where it is not of the weights' type and where they are already."""
        like = next((w for w in own.values() if w.is_floating_point()), None)
        if like is not None and (like.dtype, like.device) != self._cast[:2]:
            kinds = {name: like.dtype if w.is_floating_point() else w.dtype for name, w in self._rest.items()}
            moved = {name: w.to(like.device, kinds[name]) for name, w in self._rest.items()}
            changed = {name: w for name, w in moved.items() if w is not self._rest[name]}
            self._cast = like.dtype, like.device, changed
        return self._cast[2]


def run_module(
    module: nn.Module,
    shapes: Mapping[str, Shape],
    hint: str = _SAME,
    unused: Callable[[str], bool] = lambda _: False,
    called: Callable[[str], str] = lambda name: name,
    example: Example | None = None,
) -> ModuleRun:
    """A module as a `Run` of checkpoints with these names and shapes.

    The prefixes that a checkpoint's names are read without (`module.`, `model.`) may stand before all of
    the module's, `_orig_mod.` anywhere in them. BatchNorm's counters, all but one of tied tensors, and what
    is `unused` may be absent from either; buffers that are not persistent may be there. A name that the
    module does not have may be one that it goes by as `called`.

    Raises:
        MismatchError: names or shapes differ; they are listed.
    """
    own, ties = shapes_of(module), _ties(module)
    held = {name: tuple(b.shape) for name, b in module.named_buffers()}
    logical = _logical(own, ties, shapes, [*held, *(name for tied in ties for name in tied)])
    buffers = {logical[name]: name for name in held}
    names = {logical[name]: name for name in own}
    names |= {name: full for name, full in buffers.items() if name in shapes}
    names |= {name: names.pop(called(name)) for name in shapes if name not in names and called(name) in names}
    sizes = {**own, **held}
    spare = {
        logical[name] for tied in ties if any(logical[other] in shapes for other in tied) for name in tied
    }
    check_fit(
        {name: sizes[full] for name, full in names.items()}, shapes, hint,
        lambda name: is_counter(name) or name in spare or unused(name),
    )  # fmt: skip
    return ModuleRun(module, {name: names[name] for name in shapes if name in names}, example)


def output_of(out: object) -> Tensor:
    """The tensor in what a module returned: itself, `out.logits`, or the first of a dict or tuple.

    Raises:
        UsageError: there is none.
    """
    logits = getattr(out, "logits", None)
    output = logits if isinstance(logits, Tensor) else out
    if isinstance(output, Mapping):
        output = output["logits"] if "logits" in output else next(iter(output.values()), None)
    if isinstance(output, Sequence) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise UsageError(
            f"the model returned {type(out).__name__}, not a tensor.",
            "let the factory return a module whose forward returns a tensor.",
        )
    return output


def _ties(module: nn.Module) -> list[tuple[str, ...]]:
    """The names of parameters and buffers that share a tensor."""
    named: dict[int, list[str]] = {}
    tensors = [
        *module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)
    ]  # fmt: skip
    for name, tensor in tensors:
        named.setdefault(id(tensor), []).append(name)
    return [tuple(names) for names in named.values() if len(names) > 1]


def _logical(
    own: Mapping[str, Shape], ties: Sequence[Sequence[str]], given: Mapping[str, Shape], more: Iterable[str]
) -> dict[str, str]:
    """The module's names (`own` and `more`) without what stands in them and not in a checkpoint's.

    Tied tensors that a file leaves out, as `lm_head.weight`, need not begin with the prefix.
    """
    later = {name for tied in ties for name in tied if name != next((n for n in tied if n in own), None)}
    prefixes = [common_prefix(own), common_prefix(name for name in own if name not in later)]
    readings = [logical_names(dict.fromkeys((*own, *more)), prefix) for prefix in prefixes]
    return max(readings, key=lambda logical: sum(logical[name] in given for name in own))


def _give_once(own: dict[str, Tensor], names: Sequence[str]) -> None:
    """Keep the first of tied tensors. Raises MismatchError where another differs from it."""
    for name in names[1:]:
        first, other = own[names[0]], own.pop(name)
        if first is not other and not torch.equal(first, other):
            message = f"'{names[0]}' and '{name}' are one tensor in the model but differ in the checkpoint."
            raise MismatchError(message, _SAME)


def _contiguous(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """In `channels_last`, GroupNorm on a CPU loses digits where a group's mean is large."""
    return tuple(x.contiguous() for x in inputs)


def _let_go(module: nn.Module, given: set[str]) -> None:
    """Put the parameters that will be given on the meta device, tied ones together."""
    moved: dict[int, nn.Parameter] = {}
    for path, owner in module.named_modules():
        for key, parameter in list(owner._parameters.items()):
            name = f"{path}.{key}" if path else key
            if parameter is not None and name in given:
                empty = moved.setdefault(id(parameter), nn.Parameter(parameter.detach().to("meta"), False))
                owner._parameters[key] = empty

"""`transport` of a LoRA adapter: what it changes in base A, carried to base B as an adapter of that rank.

Carrying is linear, and what it makes of s B A has the same rank r. So r random combinations of its columns
span all of them, and their QR decomposition factors it exactly, without an SVD of the whole matrix.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.aligners.alignment import Alignment
from deepalign_cli.aligners.artifact import check_hashes, measured_for
from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.checkpoint.hub import parse_reference
from deepalign_cli.checkpoint.whole_folder import created_folder
from deepalign_cli.combiners.low_rank import summed
from deepalign_cli.errors import MismatchError
from deepalign_cli.operations.adapters import CONFIG, Adapter
from deepalign_cli.operations.align import facts_of, keep_alignment, notes_of_pairs
from deepalign_cli.operations.finite import check_finite
from deepalign_cli.operations.job import Job, Report
from deepalign_cli.operations.merge_adapters import FACTORS, check_adapters, write_adapter
from deepalign_cli.operations.provenance import Hashes, provenance, with_hashes
from deepalign_cli.operations.session import Session
from deepalign_cli.operations.transport import check_scale
from deepalign_cli.progress import SILENT, Progress


def transport_adapter(
    job: Job, adapter: Adapter, scale: float = 1.0, progress: Progress = SILENT
) -> Report:  # fmt: skip
    """Write the adapter for base B, a folder that peft loads; the job's inputs are base B and base A.

    Raises:
        MismatchError: the adapter is not one of base A. UsageError: the output may not be written, or the
            scale is not finite.
    """
    started = time.perf_counter()
    check_scale(scale)
    check_adapters(job)
    job, session = job.open()
    return write_carried(job, session, adapter, scale, started, progress)[0]


def write_carried(
    job: Job, session: Session, adapter: Adapter, scale: float, started: float, progress: Progress = SILENT
) -> tuple[Report, dict[str, Tensor]]:
    """The same for bases that are open; the report, and the factors by peft's names."""
    with created_folder(job.output) as place, Hashes([*session.inputs, adapter.checkpoint]) as hashes:
        alignment, tensors = carried(session, adapter, scale, progress)
        values = hashes.values()
        if not job.settings.force:
            check_hashes(alignment, values[0], values[1])
        facts = facts_of("transport", session, [alignment]) | {"scale": scale}
        inputs, spec = [*session.inputs, adapter.checkpoint], alignment.symmetry.spec
        metadata = provenance(adapter.checkpoint, inputs, spec, facts, whole_spec=False)
        metadata = with_hashes(metadata, values)
        force, config = job.settings.force, _config(adapter, session.reference)
        write_adapter(place, tensors, metadata, config, force=force)
        keep_alignment(job, [alignment], hashes)
    alignment = measured_for(alignment, session.reference, session.moving[0])
    notes = tuple(dict.fromkeys(notes_of_pairs(session.inputs, [alignment])))
    size = sum(w.nbytes for w in tensors.values())
    seconds = time.perf_counter() - started
    report = Report(job.output, (alignment,), seconds, size, notes, metadata, (FACTORS, CONFIG))
    return report, tensors


def carried(
    session: Session, adapter: Adapter, scale: float = 1.0, progress: Progress = SILENT
) -> tuple[Alignment, dict[str, Tensor]]:
    """The alignment of the bases, and the adapter's factors for base B by peft's names.

    Raises:
        MismatchError: the adapter is not one of base A. UsageError: the scale is not finite.
    """
    check_scale(scale)
    places = _places(adapter, session.moving[0])
    check_finite(adapter.checkpoint)
    alignment = session.alignments(progress=progress)[0]
    tensors: dict[str, Tensor] = {}
    for module, name in places.items():
        tensors |= _carried(adapter, module, name, alignment, session.moving[0], scale)
    return alignment, tensors


def _places(adapter: Adapter, base: Checkpoint) -> Mapping[str, str]:
    """The tensor of base A that each module of the adapter changes."""
    if adapter.others:
        problem = f"'{next(iter(adapter.others))}' in '{adapter.checkpoint.path}' is no factor of an adapter."
        raise MismatchError(problem, "carry the whole network: merge the adapter into its base first.")
    stored = {info.stored_name: name for name, info in base.infos.items()}
    places = {}
    for module in adapter.modules:
        name = stored.get(f"{module}.weight") or (f"{module}.weight" if f"{module}.weight" in base else None)
        if name is None:
            problem = f"'{base.path}' has no '{module}.weight', which '{adapter.checkpoint.path}' changes."
            raise MismatchError(problem, "BASE_A is the network that the adapter was trained on.")
        if base.infos[name].shape not in _shapes(adapter, module):
            problem = f"'{name}' of '{base.path}' has not the sizes that '{adapter.checkpoint.path}' has."
            raise MismatchError(problem, "BASE_A is the network that the adapter was trained on.")
        places[module] = name
    return places


def _shapes(adapter: Adapter, module: str) -> tuple[tuple[int, ...], ...]:
    """The shape of a module's weight as it is, or in the order of one that is stored in by out."""
    outputs, inputs = adapter.sizes(module)
    plain = (outputs, *inputs)
    return (plain[::-1],) if _is_transposed(adapter, module) else (plain,)


def _is_transposed(adapter: Adapter, module: str) -> bool:
    """Whether the weight is stored [in, out]: in GPT-2's layers, and in embeddings."""
    is_embedding = "lora_embedding" in adapter.modules[module].stored[0]
    return is_embedding or bool(adapter.config.get("fan_in_fan_out"))


def _carried(
    adapter: Adapter, module: str, name: str, alignment: Alignment, base: Checkpoint, scale: float
) -> dict[str, Tensor]:
    """The factors of a module in base B's units."""
    b, a = adapter.factors(module)
    change = scale * adapter.modules[module].scale * (b.double() @ a.double())
    turned = change.T if _is_transposed(adapter, module) else change
    moved = alignment.act(name, turned.reshape(base.infos[name].shape))
    flat = moved.T if _is_transposed(adapter, module) else moved.flatten(1)
    left, right = exact_factors(flat.contiguous(), adapter.rank(module))
    pair, infos = adapter.modules[module], adapter.checkpoint.infos
    kind = adapter.checkpoint[pair.a].dtype
    shaped = right.reshape(infos[pair.a].shape), left.reshape(infos[pair.b].shape)
    return {n: w.to(kind).contiguous() for n, w in zip(pair.stored, shaped, strict=True)}


def exact_factors(
    matrix: Float[Tensor, "out in"], rank: int
) -> tuple[Float[Tensor, "out r"], Float[Tensor, "r in"]]:
    """B and A with B A the matrix, which is of this rank at most."""
    rng = torch.Generator().manual_seed(0)
    mixed = matrix @ torch.randn(matrix.shape[1], rank, generator=rng, dtype=matrix.dtype)
    columns = torch.linalg.qr(mixed).Q
    return summed([(columns, columns.T @ matrix)], [1.0]).factors(rank)


def _config(adapter: Adapter, base: Checkpoint) -> dict[str, object]:
    """The adapter's configuration on another base, each module's rank its own, and all scales 1."""
    ranks = {module: adapter.rank(module) for module in adapter.modules}
    usual = max(ranks.values())
    own = {module: rank for module, rank in ranks.items() if rank != usual}
    hub = parse_reference(base.origin) if base.origin else None
    return dict(adapter.config) | {
        "base_model_name_or_path": hub.repo if hub else str(base.path),
        "revision": hub.revision if hub else None,
        "r": usual, "lora_alpha": usual, "rank_pattern": own, "alpha_pattern": own, "use_rslora": False,
        "init_lora_weights": True,
    }  # fmt: skip

"""The universal encoder as its equations read, with LayerNorms and without regard to time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deepalign_cli.network.graph import Ends, Graph
from deepalign_cli.network.sketches import Sketches
from deepalign_cli.network.strengths import strengths
from deepalign_cli.network.universal import Universal, places_of


def plain_features(
    model: Universal, graph: Graph, weights: dict[str, Tensor], seeds: list[int]
) -> dict[str, Tensor]:
    """One network's features, group by group, of shape (sketches, units, channels)."""
    read = strengths(graph, weights)
    places = places_of(graph, next(iter(read.drive.values())))
    inner = {g: (m.shape[1],) for g, m in read.importance.items()}
    state = {}
    for g in inner:
        labels = {end: torch.zeros(len(seeds), *inner[g], model.config.sketch).double() for end in Ends}
        for end in (Ends.INPUTS, Ends.OUTPUTS):
            heard = []
            for i, edge in enumerate(graph.edges):
                if edge.ends is end and g == (edge.target if end is Ends.INPUTS else edge.source):
                    m = read.matrices[i]
                    w, scale = (m.w[0], m.down[0]) if end is Ends.INPUTS else (m.w[0].movedim(0, 1), m.up[0])
                    z = Sketches(seeds)(w.shape[1], w.shape[2], model.config.sketch, w)
                    heard.append(torch.einsum("nlk,lkqc->qnc", w, z) * scale)
            if heard:
                labels[end] = torch.stack(heard).sum(0) / len(heard) ** 0.5
        own = torch.cat([read.importance[g][0][:, None], read.vectors[g][0]], dim=1)
        rest = torch.cat([own, places[g].expand(len(own), -1)], dim=1).expand(len(seeds), -1, -1)
        state[g] = model.enter(torch.cat([labels[Ends.INPUTS], labels[Ends.OUTPUTS], rest], dim=2))
    for onward, back in zip(model.onward, model.back, strict=True):
        for update, levels, ends in (
            (onward, graph.levels(graph.depth), "target"),
            (back, graph.levels(graph.height), "source"),
        ):
            for level in levels:
                state |= {g: _updated(update, graph, read, state, places, g, ends) for g in level}
    return {g: model.leave(model.norm(x)) for g, x in state.items()}


def _updated(
    update: nn.Module, graph: Graph, read: object, state: dict[str, Tensor], places: dict[str, Tensor],
    group: str, ends: str,
) -> Tensor:  # fmt: skip
    normed = update.norm(state[group])
    heard = []
    for i, edge in enumerate(graph.edges):
        if edge.ends is not Ends.GROUPS or getattr(edge, ends) != group:
            continue
        m = read.matrices[i]
        values = update.values[: m.w.shape[3]]
        if ends == "target":
            x = update.norm(state[edge.source]) * read.drive[edge.source][0]
            heard.append(torch.einsum("tsk,qsc,kcd->qtd", m.w[0], x, values) * m.down[0])
        else:
            x = update.norm(state[edge.target]) * m.pull[0]
            heard.append(torch.einsum("tsk,qtc,kcd->qsd", m.w[0], x, values) * m.up[0])
    message = torch.stack(heard).sum(0) / len(heard) ** 0.5 if heard else torch.zeros_like(normed)
    mean = normed.mean(1, keepdim=True).expand_as(normed)
    place = places[group].expand(*normed.shape[:2], -1)
    hidden = nn.functional.gelu(update.first(torch.cat([normed, message, mean, place], dim=2)))
    return state[group] + update.second(hidden)

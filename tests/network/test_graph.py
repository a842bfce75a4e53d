from __future__ import annotations

import pytest
import torch

from deepalign_cli.network.graph import Ends, Graph, cells
from tests.network.builders import bound, network
from tests.symmetry.builders import CASES, seeded

Tie = tuple[str, str, str]  # tensor, target, source; empty for labels

NESTED = bound({"w": (3 * (2 + 4), 5), "b": (4,)}, w="a*(2|b) c", b="b")


def graph_of(name: str) -> Graph:
    return Graph(network(name)[0])


def ties(graph: Graph) -> set[Tie]:
    return {(e.cell.name, e.target, e.source) for e in graph.edges}


def test_the_edges_of_an_mlp_are_its_weights_and_its_vectors_the_biases() -> None:
    graph = graph_of("mlp")
    assert ties(graph) == {
        ("0.weight", "h0", ""),
        ("2.weight", "h2", "h0"),
        ("4.weight", "h4", "h2"),
        ("6.weight", "", "h4"),
    }
    ends = {e.cell.name: e.ends for e in graph.edges}
    assert ends == {
        "0.weight": Ends.INPUTS,
        "2.weight": Ends.GROUPS,
        "4.weight": Ends.GROUPS,
        "6.weight": Ends.OUTPUTS,
    }
    assert {(v.cell.name, v.group, v.role) for v in graph.vectors} == {
        ("0.bias", "h0", "bias"),
        ("2.bias", "h2", "bias"),
        ("4.bias", "h4", "bias"),
    }
    assert graph.depth == {"h0": 1, "h2": 2, "h4": 3}
    assert graph.height == {"h0": 3, "h2": 2, "h4": 1}
    assert graph.levels(graph.height) == [["h4"], ["h2"], ["h0"]]
    assert [e.cell.name for e in graph.writers["h2"]] == ["2.weight"]
    assert [e.cell.name for e in graph.readers["h2"]] == ["4.weight"]
    assert "6.bias" not in graph.names
    assert set(graph.names) == {f"{i}.{role}" for i in (0, 2, 4) for role in ("weight", "bias")} | {
        "6.weight"
    }


def test_the_entries_behind_a_flatten_are_a_square_grid() -> None:
    symmetry, a = network("plain_cnn")
    edges = {e.cell.name: e for e in Graph(symmetry).edges}
    flat = edges["fc1.weight"]
    assert (flat.target, flat.source, flat.sizes, flat.grid) == ("fc1", "conv2", (20, 12), (4, 4))
    assert torch.equal(flat.matrix(a["fc1.weight"]), a["fc1.weight"].reshape(1, 20, 12, 16))
    assert edges["conv2.weight"].grid == (3, 3)
    assert torch.equal(edges["conv2.weight"].matrix(a["conv2.weight"]), a["conv2.weight"].flatten(3))
    assert (edges["conv1.weight"].ends, edges["conv1.weight"].sizes) == (Ends.INPUTS, (8, 3))
    assert (edges["fc2.weight"].ends, edges["fc2.weight"].sizes) == (Ends.OUTPUTS, (10, 20))


def test_a_residual_stream_has_many_writers_and_many_readers() -> None:
    graph = graph_of("cifar_resnet")
    assert {e.cell.name for e in graph.writers["conv1"]} == {
        "conv1.weight",
        "layer1.0.conv2.weight",
        "layer1.1.conv2.weight",
    }
    assert {e.cell.name for e in graph.readers["conv1"]} == {
        "layer1.0.conv1.weight",
        "layer1.1.conv1.weight",
        "layer2.0.conv1.weight",
        "layer2.0.shortcut.0.weight",
    }
    assert graph.depth["conv1"] == 1
    assert graph.depth["layer1.0.conv1"] == graph.depth["layer1.1.conv1"] == 2
    assert graph.depth["layer2.0"] == 2  # by the shortcut
    assert graph.height["layer3.0"] == 1
    assert graph.normed == set(graph.symmetry.sizes)
    roles = {v.role for v in graph.vectors if v.group == "conv1"}
    assert roles == {"weight", "bias", "running_mean", "running_var"}


def test_a_concatenation_is_one_edge_for_each_part() -> None:
    symmetry = bound(
        {"c0": (3, 4), "c1": (2, 4), "mix__weight": (6, 5), "norm__weight": (5,), "out": (7, 6)},
        c0="c0 4",
        c1="c1 4",
        mix__weight="k c0|c1",
        norm__weight="c0|c1",
        out="7 k",
    )
    graph = Graph(symmetry)
    w = torch.randn(2, 6, 5, generator=seeded(1))
    parts = {e.source: e.matrix(w) for e in graph.writers["k"]}
    assert parts.keys() == {"c0", "c1"}
    assert torch.equal(parts["c0"], w[:, :, :3, None])
    assert torch.equal(parts["c1"], w[:, :, 3:, None])
    assert graph.depth == {"c0": 1, "c1": 1, "k": 2}
    vector = torch.arange(5.0).unsqueeze(0)
    found = {v.group: v.cell.block(vector)[0].tolist() for v in graph.vectors}
    assert found == {"c0": [0.0, 1.0, 2.0], "c1": [3.0, 4.0]}


def test_heads_are_tied_to_the_stream_by_blocks() -> None:
    symmetry, a = network("transformer_prenorm")
    graph = Graph(symmetry)
    layer = "encoder.layers.0"
    fused, name = f"{layer}.self_attn.in_proj_weight", f"{layer}.heads"
    (into,) = (e for e in graph.edges if e.cell.name == fused)
    assert (into.target, into.source, into.sizes, into.grid) == (name, "stream", (4, 16), (3, 4))
    expected = a[fused].reshape(1, 3, 4, 4, 16).permute(0, 2, 4, 1, 3).reshape(1, 4, 16, 12)
    assert torch.equal(into.matrix(a[fused]), expected)
    (out,) = (e for e in graph.edges if e.cell.name == f"{layer}.self_attn.out_proj.weight")
    assert (out.target, out.source, out.sizes) == ("stream", name, (16, 4))
    writers = {e.cell.name for e in graph.writers["stream"] if e.source and e.cell.name.startswith(layer)}
    assert writers == {f"{layer}.self_attn.out_proj.weight", f"{layer}.linear2.weight"}
    assert graph.depth["stream"] == graph.height["stream"] == 1
    assert graph.depth[f"{layer}.ffn"] == 2


def test_groups_that_no_path_reaches_stand_behind_all_others() -> None:
    symmetry = bound({"into": (4, 3), "side": (4, 5), "out": (2, 4)}, into="a 3", side="a b", out="2 a")
    graph = Graph(symmetry)
    assert graph.depth == {"a": 1, "b": 2}
    assert graph.height == {"a": 1, "b": 2}
    alone = Graph(bound({"w": (4, 5)}, w="a b"))
    assert alone.depth == alone.height == {"a": 1, "b": 1}


def test_a_tensor_of_three_groups_ties_every_two_of_them() -> None:
    symmetry = bound({"w": (2, 3, 4, 5)}, w="a b 4 c")
    w = torch.randn(1, 2, 3, 4, 5, generator=seeded(1))
    found = {(e.target, e.source): e.matrix(w) for e in Graph(symmetry).edges}
    assert found.keys() == {("a", "b"), ("a", "c"), ("b", "c")}
    assert torch.allclose(found["a", "b"], w.mean(4))
    assert torch.allclose(found["a", "c"], w.mean(2).transpose(2, 3))
    assert torch.allclose(found["b", "c"], w.mean(1).transpose(2, 3))


def test_cells_are_the_blocks_between_the_borders_of_concatenations() -> None:
    symmetry = bound({"w": (2 + 3, 7 + 4), "a": (2,), "b": (3,)}, w="a|b  7|2*a", a="a", b="b")
    found = {tuple((b.start, b.stop) for b in c.blocks): c for c in cells(symmetry, "w")}
    assert set(found) == {
        ((0, 2), (0, 7)),
        ((0, 2), (7, 11)),
        ((2, 5), (0, 7)),
        ((2, 5), (7, 11)),
    }
    corner = found[(2, 5), (7, 11)]
    assert [(f.axis, f.group, f.size) for f in corner.factors] == [(0, "b", 3), (1, "", 2), (1, "a", 2)]
    w = torch.arange(55.0).reshape(1, 5, 11)
    assert torch.equal(corner.block(w), w[:, 2:, 7:].reshape(1, 3, 2, 2))


def test_cells_of_a_nested_axis_are_gathered() -> None:
    w = torch.arange(90.0).reshape(1, 18, 5)
    blocks = {tuple(f.group or f.size for f in c.factors): c.block(w) for c in cells(NESTED, "w")}
    whole = w.reshape(1, 3, 6, 5)
    assert blocks.keys() == {("a", 2, "c"), ("a", "b", "c")}
    assert torch.equal(blocks["a", 2, "c"], whole[:, :, :2])
    assert torch.equal(blocks["a", "b", "c"], whole[:, :, 2:])


def test_cells_are_differentiated_and_batched() -> None:
    edge = next(e for e in Graph(NESTED).edges if (e.target, e.source) == ("b", "c"))
    w = torch.randn(4, 18, 5, generator=seeded(1))

    def energy(one: torch.Tensor) -> torch.Tensor:
        return edge.matrix(one.unsqueeze(0)).square().sum()

    found = torch.func.vmap(torch.func.grad(energy))(w)
    means = w.reshape(4, 3, 6, 5)[:, :, 2:].mean(1, keepdim=True)
    expected = torch.zeros(4, 3, 6, 5)
    expected[:, :, 2:] = 2 * means / 3
    assert torch.allclose(found.reshape(4, 3, 6, 5), expected, atol=1e-6)


def test_what_carries_no_group_is_no_cell() -> None:
    symmetry = bound({"w": (2, 7), "a": (2,)}, w="1|1 7", a="a")
    assert list(cells(symmetry, "w")) == []
    assert Graph(symmetry).names == ("a",)


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_that_moves_is_read_once_an_entry(name: str) -> None:
    symmetry, a = network(name)
    graph = Graph(symmetry)
    assert set(graph.names) == {n for n in a if symmetry.moves(n)}
    for edge in graph.edges:
        w = a[edge.cell.name]
        matrix = edge.matrix(w)
        assert matrix.shape[:3] == (1, *edge.sizes)
        assert matrix.numel() == w.numel()
        assert torch.equal(matrix.flatten().sort().values, w.flatten().sort().values)
    assert all(1 <= d <= len(graph.depth) + 1 for d in (*graph.depth.values(), *graph.height.values()))

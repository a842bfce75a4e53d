"""Traces kept in the cache: found again, not where anything changed, and damaged files ignored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from deepalign_cli.models.example import Example
from deepalign_cli.tracing.cache import cached, keep, key_of
from deepalign_cli.tracing.fingerprint import fingerprint
from deepalign_cli.tracing.pipeline import trace


class Net(nn.Module):
    def __init__(self, body: Callable[[Tensor], Tensor] = torch.relu, slope: float = 0.1) -> None:
        super().__init__()
        self.a, self.b, self.body, self.slope = nn.Linear(5, 6), nn.Linear(6, 3), body, slope

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.body(self.a(x)))


class Other(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.body(self.a(x)) * 2)


def tied() -> Net:
    net = Net()
    net.a = nn.Linear(5, 5)
    net.b = nn.Linear(5, 5)
    net.b.weight = net.a.weight
    return net


def untied() -> Net:
    net = Net()
    net.a, net.b = nn.Linear(5, 5), nn.Linear(5, 5)
    return net


def key(module: nn.Module, *shape: int, dtype: torch.dtype = torch.float32) -> str:
    return key_of(fingerprint(module, Example((torch.zeros(*(shape or (2, 5)), dtype=dtype),))))


def test_the_same_network_has_the_same_key() -> None:
    assert key(Net()) == key(Net())
    body = [lambda x: x.relu(), lambda x: x.relu()]
    assert key(Net(body[0])) == key(Net(body[1]))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Net, Other),
        (Net, lambda: Net(slope=0.2)),
        (lambda: Net(lambda x: x.relu()), lambda: Net(lambda x: x.tanh())),
        (tied, untied),
    ],
    ids=["code", "setting", "lambda", "ties"],
)
def test_another_network_has_another_key(one: Callable[[], Net], other: Callable[[], Net]) -> None:
    assert key(one()) != key(other())


def test_other_inputs_have_another_key() -> None:
    assert len({key(Net()), key(Net(), 3, 5), key(Net(), 2, 5, dtype=torch.float64)}) == 3


def test_a_trace_is_found_again_and_a_damaged_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPALIGN_CACHE", str(tmp_path))
    torch.manual_seed(0)
    traced = trace(Net(), Example((torch.randn(2, 5),)))
    name = key(Net())
    assert cached(name) is None
    keep(name, traced)
    again = cached(name)
    assert again is not None
    assert again.spec.axes == traced.spec.axes
    assert again.spec.sizes == traced.spec.sizes
    assert again.stays == traced.stays
    (path,) = tmp_path.rglob("*.json")
    for damage in (
        "",
        "{",
        "[]",
        "null",
        '{"spec": 3, "source": ""}',
        path.read_text()[:-40],
        path.read_text().replace("*", "@").replace("spec", "sp"),
    ):
        path.write_text(damage)
        assert cached(name) is None


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEEPALIGN_CACHE", str(tmp_path / "file"))
    keep("k", trace(Net(), Example((torch.randn(2, 5),))))
    assert cached("k") is None

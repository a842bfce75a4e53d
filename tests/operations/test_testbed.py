"""What networks are run as and on, once it is opened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch.nn import functional

from deepalign_cli.checkpoint import Checkpoint, open_checkpoint
from deepalign_cli.errors import DataError, UsageError
from deepalign_cli.models import batch_size
from deepalign_cli.operations.run_settings import RunSettings
from deepalign_cli.operations.settings import Settings
from deepalign_cli.operations.testbed import MATCHED_ON, REPAIRED_ON, open_testbed
from deepalign_cli.symmetry.spec import Activation
from tests import nets
from tests.cli.subjects import between, data_set, examples, factory, measured
from tests.operations.making import pair

if TYPE_CHECKING:  # pytest would collect a class of this name
    from deepalign_cli.operations.testbed import Testbed

Files = tuple[Checkpoint, Checkpoint]


def opened(folder: Path, kind: str = "named_mlp", count: int = 24, **more: object) -> tuple[Testbed, Files]:
    """A network of this kind on its data set, and two checkpoints of it."""
    a, b = pair(folder, kind)
    data = str(data_set(folder, kind, count))
    running = RunSettings(model=factory(folder), arguments={"kind": kind}, data=data)
    own = open_checkpoint(a)
    return open_testbed(own, replace(running, **more)), (own, open_checkpoint(b))  # type: ignore[arg-type]


def values(folder: Path, **arrays: np.ndarray) -> RunSettings:
    """The network on a data set of these arrays."""
    np.savez(folder / "values.npz", **arrays)  # type: ignore[arg-type]  # none is called allow_pickle
    return RunSettings(model=factory(folder), data=str(folder / "values.npz"))


def test_data_are_needed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing can be run without data"):
        open_testbed(open_checkpoint(pair(tmp_path)[0]), RunSettings())


def test_what_was_taken_is_said(tmp_path: Path) -> None:
    testbed, _ = opened(tmp_path)
    assert testbed.says[0].startswith("run as NamedMLP of ")
    assert testbed.says[0].endswith("factories.py:make with kind=named_mlp")
    assert "loss: cross-entropy, the labels are integers" in testbed.says
    assert not any(said.startswith("inputs: ") for said in testbed.says)
    assert [data.name for data in testbed.sets] == ["data.npz, test, 24 examples"]
    assert testbed.training.name == "data.npz, train, 24 examples"


def test_what_becomes_of_inputs_is_said(tmp_path: Path) -> None:
    testbed, _ = opened(tmp_path, normalise="0.5,0.25")
    assert "inputs: less the mean 0.5, divided by 0.25" in testbed.says


def test_an_activation_that_is_named_makes_the_network(tmp_path: Path) -> None:
    own, data = open_checkpoint(pair(tmp_path)[0]), data_set(tmp_path)
    x, _ = examples(data)
    outputs = []
    for activation in (Activation.RELU, Activation.TANH):
        testbed = open_testbed(own, RunSettings(data=str(data)), activation)
        outputs.append(testbed.run(dict(own), x))
    module = nets.named_mlp(activation="tanh")
    module.load_state_dict(dict(own))

    torch.testing.assert_close(outputs[1], module(x).detach())
    assert not torch.allclose(outputs[0], outputs[1])


def test_samples_and_batches(tmp_path: Path) -> None:
    assert (MATCHED_ON, REPAIRED_ON) == (5000, 2000)
    whole, _ = opened(tmp_path, batch_size=10)
    assert [len(x) for x in whole.repaired_on()] == [8, 8, 8]
    odd, _ = opened(tmp_path, count=21, batch_size=5)  # an example alone has no variance
    assert [len(x) for x in odd.repaired_on()] == [3] * 7
    few, _ = opened(tmp_path, samples=6, batch_size=4)
    first = [x for _ in range(2) for x in few.repaired_on()]  # the same each time that it is asked
    assert [len(x) for x in first] == [3, 3, 3, 3]
    assert first[0].equal(first[2])
    x, _ = examples(tmp_path / "data.npz", "train")
    assert torch.cat(first[:2]).equal(x[::4])
    assert torch.cat(list(few.evidence.batches())).equal(x[::4])


def test_statistics_have_larger_batches_where_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most, _ = opened(tmp_path)
    assert (most.batch_size, most.statistics_size, most.repair_size) == (1000, 1000, 24)
    monkeypatch.setattr(batch_size, "_ENTRIES", 100)  # five examples of the widest layer
    few, _ = opened(tmp_path, count=300)
    assert (few.batch_size, few.statistics_size, few.repair_size) == (5, 128, 100)
    assert {len(x) for x in few.repaired_on()} == {100}
    said, _ = opened(tmp_path, batch_size=7)
    assert (said.batch_size, said.statistics_size) == (7, 7)


@pytest.mark.parametrize("kind", ["named_mlp", "plain_cnn_bn"])
def test_the_judge_is_the_loss_midway_on_training_examples(kind: str, tmp_path: Path) -> None:
    testbed, (own, other) = opened(tmp_path, kind)
    symmetry = Settings().symmetry(own)
    judged = testbed.judge(symmetry, own, other)(symmetry.identity())

    module, (x, labels) = nets.ALL[kind]()[0], examples(tmp_path / "data.npz", "train")
    module.load_state_dict(between(own, other, 0.5))
    for norm in (part for part in module.modules() if isinstance(part, torch.nn.BatchNorm2d)):
        norm.momentum = 1.0  # what one batch in training mode leaves are its own statistics
    with torch.no_grad():
        module.train()(x)
    loss, _ = measured(module, dict(module.state_dict()), x, labels)
    assert judged == pytest.approx(loss, rel=1e-4)


def test_a_label_that_is_too_high_is_known_before_any_work(tmp_path: Path) -> None:
    """However late in the data it comes."""
    labels = np.zeros(400, "int64")
    labels[377] = 5
    running = values(tmp_path, inputs=np.zeros((400, 12), "float32"), labels=labels)
    own = open_checkpoint(pair(tmp_path)[0])
    with pytest.raises(DataError, match="the labels go up to 5, but the network has 5 outputs"):
        open_testbed(own, running)
    labels[377] = -3
    with pytest.raises(DataError, match="a label is -3"):
        open_testbed(own, values(tmp_path, inputs=np.zeros((400, 12), "float32"), labels=labels))


def test_every_split_is_tried(tmp_path: Path) -> None:
    x = np.zeros((6, 12), "float32")
    running = values(
        tmp_path, test_inputs=x, test_labels=np.zeros(6, "int64"), train_inputs=x[:, :5],
        train_labels=np.zeros(6, "int64"),
    )  # fmt: skip
    own = open_checkpoint(pair(tmp_path)[0])
    open_testbed(own, running)
    with pytest.raises(DataError, match=r"5.*12|12.*5"):
        open_testbed(own, replace(running, splits=("test", "train")))


def test_one_example_is_enough(tmp_path: Path) -> None:
    own = open_checkpoint(pair(tmp_path)[0])
    testbed = open_testbed(own, values(tmp_path, inputs=np.ones((1, 12), "float32"), labels=np.array([3])))
    assert len(testbed.sets[0]) == 1
    out = testbed.run(dict(own), torch.ones(1, 12))
    total, right, count = testbed.loss(out, torch.tensor([3]))
    assert total == pytest.approx(float(functional.cross_entropy(out, torch.tensor([3]))))
    assert (right in (0, 1), count) == (True, 1)

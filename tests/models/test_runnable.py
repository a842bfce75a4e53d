from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deepalign_cli.errors import DataError, MismatchError
from deepalign_cli.models.runnable import Runnable, run_dtype
from deepalign_cli.symmetry.symmetry import Weights


def linear(weights: Weights, x: Tensor) -> Tensor:
    return x @ weights["w"]


def echo(weights: Weights, x: Tensor) -> Tensor:
    return x


def test_weights_and_inputs_meet_in_the_widest_type() -> None:
    w, x = torch.randn(3, 2), torch.randn(4, 3)
    half = Runnable(linear)({"w": w.half()}, x.double())
    assert half.dtype == torch.float32
    assert half.equal(x @ w.half().float())
    assert Runnable(linear)({"w": w.bfloat16()}, x).equal(x @ w.bfloat16().float())
    assert Runnable(linear)({"w": w.double()}, x).equal(x.double() @ w.double())
    assert Runnable(linear)({"w": w, "other": w.half()}, x).dtype == torch.float32
    assert run_dtype({"w": w, "n": torch.tensor(3)}) == torch.float32


def test_weights_that_fit_are_the_very_tensors() -> None:
    given = {"w": torch.randn(3, 2), "n": torch.tensor(3)}
    seen: list[Weights] = []

    def kept(weights: Weights, x: Tensor) -> Tensor:
        seen.append(weights)
        return linear(weights, x)

    Runnable(kept)(given, torch.randn(4, 3))
    assert seen[0]["w"] is given["w"]
    Runnable(kept)({**given, "h": torch.zeros(2).half()}, torch.randn(4, 3))
    assert seen[1]["w"] is given["w"]
    assert seen[1]["h"].dtype == torch.float32
    assert seen[1]["n"] is given["n"]


def test_whole_numbers_stay() -> None:
    tokens = torch.randint(9, (4, 3))
    assert Runnable(echo)({"w": torch.zeros(2)}, tokens) is tokens


def test_rows_and_images_without_a_channel_are_brought_into_shape() -> None:
    run, w = Runnable(echo, (1, 2, 3)), {"w": torch.zeros(1)}
    x = torch.randn(4, 6)
    assert run(w, x).equal(x.reshape(4, 1, 2, 3))
    assert run(w, x.reshape(4, 2, 3)).equal(x.reshape(4, 1, 2, 3))
    assert run(w, x.reshape(4, 1, 2, 3)).shape == (4, 1, 2, 3)
    assert run(w, x.reshape(4, 3, 2)).shape == (4, 3, 2)  # another image: left for the network to refuse
    assert run(w, torch.randn(4, 5)).shape == (4, 5)
    assert Runnable(echo, (3, 2, 2))(w, torch.randn(4, 12)).shape == (4, 3, 2, 2)


def test_an_input_that_does_not_go_through_is_one_sentence() -> None:
    with pytest.raises(DataError, match=r"does not run on an input of 5 \(float32\): ") as e:
        Runnable(linear)({"w": torch.randn(3, 2)}, torch.randn(4, 5))
    assert "\n" not in e.value.message
    assert e.value.exit_code == 3


@pytest.mark.parametrize("problem", [KeyError("k"), AssertionError("two\nlines"), RuntimeError(), TypeError])
def test_whatever_a_network_raises(problem: Exception) -> None:
    def broken(weights: Weights, x: Tensor) -> Tensor:
        raise problem

    with pytest.raises(DataError) as caught:
        Runnable(broken)({}, torch.zeros(2, 3))
    assert "\n" not in caught.value.message


def test_a_network_of_two_inputs_is_told_to_be_one() -> None:
    def two(x: Tensor, y: Tensor) -> Tensor:
        return x + y

    def run(weights: Weights, x: Tensor) -> Tensor:
        return two(x)  # type: ignore[call-arg]

    with pytest.raises(DataError, match="missing 1 required positional argument: 'y'") as caught:
        Runnable(run)({}, torch.zeros(2, 3))
    assert (caught.value.hint or "").startswith("networks of several inputs are traced")


def test_our_own_errors_and_ctrl_c_pass() -> None:
    for problem in (MismatchError("it differs."), KeyboardInterrupt()):

        def broken(weights: Weights, x: Tensor, problem: BaseException = problem) -> Tensor:
            raise problem

        with pytest.raises(type(problem)):
            Runnable(broken)({}, torch.zeros(2, 3))


@pytest.mark.parametrize("shape", [(), (3,), (3, 4)])
def test_one_output_for_each_input(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="for 4 inputs, not one output for each"):
        Runnable(lambda weights, x: torch.zeros(shape))({}, torch.zeros(4, 3))

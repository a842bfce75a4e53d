import pytest
import torch

from deepalign_cli.measure.weight_report import variance_kept, weight_report
from deepalign_cli.symmetry.spec import Spec, parse_spec
from deepalign_cli.symmetry.symmetry import Symmetry

SPEC = '[axes]\n"fc1.weight" = "h 6"\n"fc1.bias" = "h"\n"fc2.weight" = "3 h"\n'


def symmetry() -> Symmetry:
    return Symmetry(parse_spec(SPEC), {"fc1.weight": (4, 6), "fc1.bias": (4,), "fc2.weight": (3, 4)})


def weights() -> dict[str, torch.Tensor]:
    return {"fc1.weight": torch.randn(4, 6), "fc1.bias": torch.randn(4), "fc2.weight": torch.randn(3, 4)}


def test_a_network_and_itself_are_not_apart_and_lose_nothing() -> None:
    a = weights()

    rows = weight_report(symmetry(), a, a)

    assert [row.name for row in rows] == ["fc1.weight", "fc2.weight"]
    assert rows[0].distance == 0
    assert rows[0].correlation == pytest.approx(1.0)
    assert rows[0].variance == pytest.approx(1.0)
    assert (rows[1].correlation, rows[1].variance) == (None, None)  # its first axis carries no units
    assert variance_kept(rows) == pytest.approx(1.0)


def test_without_groups_there_is_no_estimate() -> None:
    a = weights()
    still = Symmetry(Spec({}), {name: tuple(w.shape) for name, w in a.items()})

    assert variance_kept(weight_report(still, a, weights())) is None


def test_units_at_right_angles_keep_half_of_their_variance() -> None:
    a, b = weights(), weights()
    a["fc1.weight"], b["fc1.weight"] = torch.eye(4, 6), torch.eye(4, 6).roll(1, 1)

    row = weight_report(symmetry(), a, b)[0]

    assert row.correlation == pytest.approx(0.0)
    assert row.variance == pytest.approx(0.5)


def test_the_estimate_is_the_variance_on_white_inputs() -> None:
    a, b = weights(), weights()
    x = torch.randn(200_000, 6)
    merged = (x @ ((a["fc1.weight"] + b["fc1.weight"]) / 2).T).var(0)
    parents = ((x @ a["fc1.weight"].T).var(0) + (x @ b["fc1.weight"].T).var(0)) / 2

    row = weight_report(symmetry(), a, b)[0]

    assert row.variance == pytest.approx(float((merged / parents).mean()), abs=0.01)

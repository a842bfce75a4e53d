from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from deepalign_cli.errors import SpecError
from deepalign_cli.models.lookup import network_for
from tests import nets
from tests.models.builders import generic, inputs, same, stored


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("plan", [(4, "M"), (4, 6, "M", 6, "M"), (4, "M", 4, 4, 4, "M", 6, 6, "M")])
def test_pools_are_read_off_the_numbers_that_are_left_out(
    plan: tuple[int | str, ...], norm: bool, tmp_path: Path
) -> None:
    module, weights = generic(nets.vgg(plan, norm=norm, pool=3))  # type: ignore[arg-type]
    network = network_for(stored(tmp_path, weights))
    assert network.says.startswith("a VGG, relu, padding 1, stride 1, max-pools of 2")
    assert same(network, weights, module, inputs((3, 26, 26), 3))


def test_an_option_may_say_otherwise(tmp_path: Path) -> None:
    module, weights = generic(nets.vgg())
    module.features[-1] = nn.Identity()  # type: ignore[index]
    network = network_for(stored(tmp_path, weights), options={"pools": "1,2"})
    assert same(network, weights, module, inputs((3, 16, 16), 3))


@pytest.mark.parametrize(
    ("old", "new"), [("classifier.3", "classifier.2"), ("features.0", "features.1"), ("features", "layers")]
)
def test_other_numbers_or_names_are_no_vgg(old: str, new: str, tmp_path: Path) -> None:
    _, weights = generic(nets.vgg())
    renamed = {n.replace(old, new) if n.startswith(old + ".") else n: w for n, w in weights.items()}
    with pytest.raises(SpecError, match="a plain CNN do not tell its activation, padding, pools"):
        network_for(stored(tmp_path, renamed))

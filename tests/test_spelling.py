from pathlib import Path

import pytest

from deepalign_cli.cli.running_options import RunningOptions
from deepalign_cli.data.preparation import Preparation
from deepalign_cli.models.designs import design_of
from deepalign_cli.spelling import british
from deepalign_cli.train.recipes import make
from deepalign_cli.train.tasks import Task


@pytest.mark.parametrize(
    ("american", "word"),
    [
        ("--normalize", "--normalise"),
        ("gray", "grey"),
        ("colors", "colours"),
        ("--design", "--design"),
        ("", ""),
    ],
)
def test_words(american: str, word: str) -> None:
    assert british(american) == british(word) == word


def test_keys_of_recipes_designs_and_metadata(tmp_path: Path) -> None:
    assert make(Task, {"data": "mnist", "gray": False}, "task") == Task("mnist", grey=False)
    assert Preparation.from_json('{"gray": true}') == Preparation(grey=True)
    config = {"kind": "resnet", "widths": [4], "blocks": 1, "size": 8}
    assert design_of({**config, "colors": 3}) == design_of({**config, "colours": 3})
    assert RunningOptions(design=["colors=3"], model_arg=["color=red"]).subject().design == {"colours": "3"}
    assert RunningOptions(model_arg=["color=red"]).subject().arguments == {"color": "red"}  # a factory's own

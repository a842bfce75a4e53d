from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deepalign_cli.operations.train import prepare
from deepalign_cli.train.corpus import Corpus, load_corpus
from deepalign_cli.train.functional_losses import answer_error, outputs_of
from deepalign_cli.train.tasks import Task
from deepalign_cli.train.teaching import taught_network
from deepalign_cli.train.workers import Workers
from tests.train.builders import write_data
from tests.train.runs import log_of, toml
from tests.train.test_autoencoding import AUTOENCODER, CONV, STEPS, write_family


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A folder with `data`, a `zoo` of classifiers and `recipe.toml`."""
    for name in ("data", "zoo"):
        (tmp_path / name).mkdir()
    write_data(tmp_path / "data")
    write_family(tmp_path / "zoo", CONV, Task("tiny", side=8, images=40, test=20))
    table = {**AUTOENCODER, "stride": 2, "tanh": True}
    (tmp_path / "recipe.toml").write_text(toml(autoencoder=table, train={**STEPS, "taught": 30}))
    return tmp_path


def apart(corpus: Corpus, network: dict[str, torch.Tensor]) -> float:
    """How far a network's answers are from those of the networks for training, on average."""
    teachers = corpus.stack(corpus.train)
    said = outputs_of(corpus.design, teachers, corpus.inputs)
    own = corpus.design(network, corpus.inputs).expand_as(said)
    return float(answer_error(own, said, 1.0).mean())


def test_it_answers_more_as_all_do(room: Path) -> None:
    corpus = load_corpus(room / "zoo", room / "data")
    before, after = apart(corpus, corpus.start(0)), apart(corpus, taught_network(corpus, 60, 1.0))
    assert after < 0.7 * before


def test_a_run_begins_near_it_and_resumes_without(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def go(out: str, stop: int | None, *, resume: bool = False) -> None:
        session = prepare(room / "recipe.toml", room / "zoo", room / "data", room / out, resume, Workers())
        session.go(stop, lambda _step, _words: None)

    go("whole", None)
    go("parts", 3)
    monkeypatch.setattr("deepalign_cli.train.autoencoding.taught_network", None)  # it is not called again
    go("parts", None, resume=True)
    assert log_of(room / "parts") == log_of(room / "whole")

"""`deepalign transport` on files and folders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from deepalign_cli.errors import OutputError
from deepalign_cli.operations.transport import TaskStream
from tests import nets
from tests.cli.subjects import refused
from tests.operations.making import deepalign, generic, listing, metadata, planted, save, tensors
from tests.symmetry.builders import seeded


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base, what was trained from it, and the base with its units in disorder."""
    base = generic(nets.named_mlp, 0).state_dict()
    save(base, tmp_path / "a.pt")
    step = {n: w + 0.05 * torch.randn(w.shape, generator=seeded(1)) for n, w in base.items()}
    save(step, tmp_path / "tuned.pt")
    planted(tmp_path / "a.pt", tmp_path / "b.pt")
    planted(tmp_path / "tuned.pt", tmp_path / "wanted.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_task_vector_is_carried_over(family: Path) -> None:
    done = deepalign("transport", "a.pt", "tuned.pt", "b.pt", "-m", "weights", "--json")
    assert done.code == 0, done.err
    told = done.json
    assert (told["output"], told["scale"], told["method"]) == ("b.tuned.safetensors", 1.0, "weights")
    before, after = (torch.load(f) for f in ("a.pt", "tuned.pt"))
    norm = sum(float((after[n] - w).square().sum()) for n, w in before.items()) ** 0.5
    assert told["task_vector"] == pytest.approx(norm, rel=1e-5)
    wanted = tensors(family / "wanted.safetensors")
    for n, w in tensors(family / "b.tuned.safetensors").items():
        assert torch.allclose(w, wanted[n], atol=1e-6), n
    facts = metadata(family / "b.tuned.safetensors")
    assert [facts[f"deepalign.input.{i}"] for i in range(3)] == ["b.pt", "a.pt", "tuned.pt"]
    assert facts["deepalign.command"] == "transport"


def test_a_saved_alignment_is_that_of_the_bases(family: Path) -> None:
    use = ["transport", "a.pt", "tuned.pt", "b.pt", "-q"]
    first = deepalign(*use, "-m", "weights", "--save-alignment", "f", "-o", "1.safetensors")
    again = deepalign(*use, "--alignment", "f", "-o", "2.safetensors")
    assert (first.out, again.out) == ("1.safetensors\n", "2.safetensors\n"), again.err
    one, two = (tensors(family / f"{i}.safetensors") for i in (1, 2))
    assert all(torch.equal(w, two[n]) for n, w in one.items())
    refused(deepalign("transport", "b.pt", "tuned.pt", "a.pt", "--alignment", "f"), 3, "sha256 differs")


def test_a_dry_run_writes_nothing(family: Path) -> None:
    before = listing(family)
    done = deepalign("transport", "a.pt", "tuned.pt", "b.pt", "--scale", "0.3", "-m", "weights", "--dry-run")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith("would write b.tuned.safetensors (")
    assert [line.partition(": ")[2] for line in lines[1:4]] == ["base B", "base A", "tuned A"]
    assert "add 0.3 x what tuned A has learned" in lines
    told = deepalign("transport", "a.pt", "tuned.pt", "b.pt", "-m", "none", "--dry-run", "--json").json
    assert (told["scale"], told["groups"], len(told["tensors"])) == (1.0, None, 6)
    assert listing(family) == before


def test_a_folder_has_the_bases_configuration(family: Path) -> None:
    for name, source in (("folder-b", "b.pt"), ("folder-a", "a.pt")):
        (family / name).mkdir()
        save(torch.load(source), family / name / "model.safetensors")
    (family / "folder-b" / "tokenizer.json").write_text('{"of": "b"}')
    done = deepalign("transport", "folder-a", "tuned.pt", "folder-b", "-m", "weights", "-o", "out", "--json")
    assert done.code == 0, done.err
    assert done.json["files"] == ["model.safetensors", "tokenizer.json", "README.md"]
    assert (family / "out" / "tokenizer.json").read_text() == '{"of": "b"}'


def test_a_folder_has_a_card_that_makes_it_again(family: Path) -> None:
    use = ["transport", "a.pt", "tuned.pt", "b.pt", "-m", "weights", "--scale", "0.5"]
    done = deepalign(*use, "--max-shard-size", "2KB", "-o", "out/", "--json")
    assert done.code == 0, done.err
    assert len([name for name in done.json["files"] if name.startswith("model-0000")]) > 1
    card = (family / "out" / "README.md").read_text()
    assert (
        "What tuned A has learned since base A, times 0.5, added to base B. Before that, the hidden" in card
    )
    (command,) = [line for line in card.splitlines() if line.startswith("deepalign transport")]
    assert command == (
        "deepalign transport a.pt tuned.pt b.pt -m weights --scale 0.5 --max-shard-size 2000 -o out/"
    )
    again = deepalign(*command.replace("out/", "again/").split()[1:])
    assert again.code == 0, again.err
    assert (family / "out" / done.json["files"][0]).exists()
    assert deepalign(*use, "-o", "out/").code == 2
    dry = deepalign(*use, "-o", "out/", "--max-shard-size", "2KB", "--dry-run", "--json", "--force")
    assert [*dry.json["files"], "model.safetensors.index.json", "README.md"] == done.json["files"]
    refused(deepalign(*use, "--max-shard-size", "2KB", "-o", "x.safetensors"), 2, "is for folders")


def test_another_type_is_written_in_threads(family: Path) -> None:
    for name, source in (("folder-b", "b.pt"), ("folder-a", "a.pt")):
        (family / name).mkdir()
        save(torch.load(source), family / name / "model.safetensors")
    (family / "folder-b" / "config.json").write_text('{"torch_dtype": "float32"}')
    use = ["transport", "folder-a", "tuned.pt", "folder-b", "-m", "weights"]
    plain = deepalign(*use, "-o", "1/", "--json")
    done = deepalign(*use, "--dtype", "bfloat16", "--threads", "3", "-o", "2/", "--json")
    assert (plain.code, done.code) == (0, 0), done.err
    one, two = (tensors(family / name / "model.safetensors") for name in "12")
    assert all(torch.equal(w.bfloat16(), two[n]) for n, w in one.items())
    assert done.json["task_vector"] == pytest.approx(plain.json["task_vector"], rel=1e-6)
    assert metadata(family / "2" / "model.safetensors")["deepalign.dtype"] == "bfloat16"
    assert '"torch_dtype": "bfloat16"' in (family / "2" / "config.json").read_text()
    dry = deepalign(*use, "--dtype", "bfloat16", "-o", "3/", "--dry-run", "--json").json
    assert {tensor["dtype"] for tensor in dry["tensors"]} == {"BF16"}
    assert "--dtype bfloat16" in (family / "2" / "README.md").read_text()


def test_a_run_that_goes_on_knows_the_whole_task_vector(
    family: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use = ["transport", "a.pt", "tuned.pt", "b.pt", "-m", "weights", "--max-shard-size", "2KB", "--json"]
    whole = deepalign(*use, "-o", "1/").json["task_vector"]
    plain, calls = TaskStream.fill, []

    def full(self: TaskStream, *given: object) -> None:
        calls.append(0)
        if len(calls) == 2:
            raise OutputError("the disk is full", "free some")
        plain(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(TaskStream, "fill", full)
    assert deepalign(*use, "-o", "2/").code == 1
    done = deepalign(*use, "-o", "2/")
    assert any("went on with an interrupted run" in note for note in done.json["notes"])
    assert done.json["task_vector"] == pytest.approx(whole, rel=1e-6)


def test_with_data_the_card_has_losses_and_statistics_are_re_estimated(tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        save(generic(nets.mlp_batchnorm, seed).state_dict(), tmp_path / f"{name}.pt")
    before = torch.load(tmp_path / "a.pt")
    tuned = {n: w + 0.01 if w.is_floating_point() else w for n, w in before.items()}
    save(tuned, tmp_path / "tuned.pt")
    (tmp_path / "net.py").write_text(
        "from tests import nets\n\ndef make():\n    return nets.mlp_batchnorm()\n"
    )
    data = {"inputs": torch.randn(60, 12), "labels": torch.randint(0, 5, (60,))}
    save_file(data, tmp_path / "data.safetensors")
    inputs = [tmp_path / f"{name}.pt" for name in ("a", "tuned", "b")]
    run = ["--model", f"{tmp_path / 'net.py'}:make", "-m", "weights", "--json"]
    done = deepalign(
        "transport", *inputs, *run, "--repair", tmp_path / "data.safetensors", "-o", f"{tmp_path / 'out'}/"
    )
    assert done.code == 0, done.err
    card = (tmp_path / "out" / "README.md").read_text()
    rows = card.partition("## What it costs")[2].splitlines()
    assert [row.split(" | ")[0].strip("| `*") for row in rows if row.startswith("| ")][1:5] == [
        "---", "b.pt", "a.pt", "tuned.pt"
    ]  # fmt: skip
    assert "**the network that was written**" in card
    assert metadata(tmp_path / "out" / "model.safetensors")["deepalign.repair.batch_size"] == "60"
    plain = deepalign("transport", *inputs, *run, "-o", tmp_path / "plain.safetensors")
    assert any("re-estimate them" in note for note in plain.json["notes"])
    repaired, carried = (tensors(tmp_path / one) for one in ("out/model.safetensors", "plain.safetensors"))
    assert {n for n, w in carried.items() if not w.equal(repaired[n])} == {
        n for n in carried if "running" in n
    }


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["a.pt", "wide.pt", "b.pt"], 3, "'wide.pt'"),
        (["a.pt", "gone.pt", "b.pt"], 2, "gone.pt"),
        (["a.pt", "tuned.pt", "b.pt", "-o", "tuned.pt"], 2, "tuned.pt"),
        (["a.pt", "tuned.pt", "b.pt", "-o", "tuned.safetensors", "--force"], 2, "is one of the inputs"),
        (["a.pt", "tuned.pt", "b.pt", "--scale", "inf"], 2, "--scale is inf"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_it_refuses(family: Path, words: list[str], code: int, message: str, dry: list[str]) -> None:
    save(generic(lambda: nets.named_mlp((12, 17, 20, 5)), 0).state_dict(), family / "wide.pt")
    (family / "tuned.safetensors").symlink_to(family / "tuned.pt")
    before = listing(family)
    refused(deepalign("transport", *words, "-m", "none", *dry), code, message)
    assert listing(family) == before

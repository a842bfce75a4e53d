"""Networks of different vocabularies merged by the command line: what rows are, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.vocabulary import token_axes
from tests.hub import forget, serve
from tests.operations.making import Done, deepalign
from tests.vocabulary.language_models import END, fast_table, write_tokenizer

A, B, C = ["u", "a", "b", "c"], ["c", "x", "u", "b"], ["x", "y", "u"]
SPEC = '[axes]\n"wte.weight" = "5 d"\n"fc.weight" = "k d"\n"lm_head.weight" = "5 k"\n"lm_head.bias" = "5"\n'


@pytest.fixture(autouse=True)
def _by_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Transformers is not asked: it does not know these networks, and takes a while to say so."""
    monkeypatch.setattr(token_axes, "_grown", lambda _: None)


def written(
    folder: Path, words: Sequence[str], seed: int, *, padding: int = 0, dtype: torch.dtype = torch.float32,
    added: Sequence[str] = (END,), **config: Any,
) -> Path:  # fmt: skip
    """A network that has a row for each of the tokens, and some of padding."""
    rng, rows = torch.Generator().manual_seed(seed), len(words) + len(added) + padding
    shapes = {
        "wte.weight": (rows, 6),
        "fc.weight": (8, 6),
        "lm_head.weight": (rows, 8),
        "lm_head.bias": (rows,),
    }
    weights = {name: torch.randn(shape, generator=rng).to(dtype) for name, shape in shapes.items()}
    folder.mkdir()
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "toy", "vocab_size": rows, **config}))
    table = fast_table(words, added)
    table["model"]["unk_token"] = "u"
    write_tokenizer(folder, table)
    return folder


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    return [
        written(tmp_path / name, words, seed)
        for seed, (name, words) in enumerate(zip("abc", (A, B, C), strict=True))
    ]


def weights(folder: Path) -> dict[str, Tensor]:
    checkpoint = open_checkpoint(folder)
    return {name: checkpoint[name] for name in checkpoint}


def by_token(folder: Path, name: str = "wte.weight") -> dict[str, Tensor]:
    table = json.loads((folder / "tokenizer.json").read_text())
    rows = table["model"]["vocab"] | {entry["content"]: entry["id"] for entry in table["added_tokens"]}
    return {token: weights(folder)[name][row] for token, row in rows.items()}


def merge(*args: object) -> Done:
    return deepalign("merge", *args, "-m", "none", "--json")


@pytest.mark.parametrize("name", ["wte.weight", "lm_head.weight", "lm_head.bias"])
def test_rows_of_shared_tokens_are_combined_and_others_taken(
    name: str, three: list[Path], tmp_path: Path
) -> None:
    a, b, _ = three
    done = merge(a, b, "--alpha", "0.25", "--tokenizer", "union", "-o", f"{tmp_path / 'o'}/")
    assert done.code == 0, done.err
    assert done.json["vocabulary"] == {"rows": 6, "shared": 4, "new": 1}
    told = ["tokens that all have, combined row by row: 4", "tokens of b that a lacks, added: 1"]
    assert done.json["notes"][1:] == told
    mine, ours, theirs = by_token(a, name), by_token(tmp_path / "o", name), by_token(b, name)
    assert ours.keys() == {*A, END, "x"}
    for token in ("u", "b", "c", END):
        assert torch.allclose(ours[token], 0.75 * mine[token] + 0.25 * theirs[token], atol=1e-6)
    assert ours["a"].equal(mine["a"])
    assert ours["x"].equal(theirs["x"])
    done = merge(a, b, "--alpha", "0.25", "--tokenizer", "A", "-o", tmp_path / "o.safetensors")
    assert done.code == 0, done.err
    alone = load_file(tmp_path / "o.safetensors")
    assert alone[name].equal(weights(tmp_path / "o")[name][:5])
    assert alone["fc.weight"].equal(weights(tmp_path / "o")["fc.weight"])


def test_what_is_written_is_one_network(three: list[Path], tmp_path: Path) -> None:
    done = merge(*three[:2], "--tokenizer", "union", "-o", f"{tmp_path / 'o'}/")
    config = json.loads((tmp_path / "o" / "config.json").read_text())
    assert config == {"model_type": "toy", "vocab_size": 6}
    card = (tmp_path / "o" / "README.md").read_text()
    assert "--tokenizer union" in card
    assert "| tokenizer | `union` |" in card
    assert set(done.json["files"]) == {path.name for path in (tmp_path / "o").iterdir()}
    again = deepalign("merge", "--recipe", tmp_path / "o", *three[:2], "-o", f"{tmp_path / 'p'}/", "--json")
    assert again.code == 0, again.err
    assert weights(tmp_path / "p")["wte.weight"].equal(weights(tmp_path / "o")["wte.weight"])


def test_of_three_the_mean_is_lent(three: list[Path], tmp_path: Path) -> None:
    done = merge(*three, "--weights", "2,1,1", "--tokenizer", "union", "-o", f"{tmp_path / 'o'}/")
    assert done.code == 0, done.err
    a, b, c = map(by_token, three)
    ours = by_token(tmp_path / "o")
    assert torch.allclose(ours["u"], a["u"] / 2 + b["u"] / 4 + c["u"] / 4, atol=1e-6)
    assert torch.allclose(ours["x"], b["x"] / 2 + c["x"] / 2, atol=1e-6)
    assert torch.allclose(ours["b"], a["b"] / 2 + b["b"] / 4 + (a["b"] + b["b"]) / 8, atol=1e-6)
    assert ours["y"].equal(c["y"])


def test_the_base_lends_its_rows(three: list[Path], tmp_path: Path) -> None:
    a, b, c = three
    how = ("--combine", "task_arithmetic", "--weights", "0.5,1", "--tokenizer", "union")
    done = merge(b, c, "--base", a, *how, "-o", f"{tmp_path / 'o'}/")
    assert done.code == 0, done.err
    base, tuned, other = map(by_token, three)
    ours = by_token(tmp_path / "o")
    assert torch.allclose(ours["b"], base["b"] + 0.5 * (tuned["b"] - base["b"]), atol=1e-6)
    mean = (tuned["x"] + other["x"]) / 2  # the base has none
    assert torch.allclose(ours["x"], mean + 0.5 * (tuned["x"] - mean) + (other["x"] - mean), atol=1e-6)
    assert ours["a"].equal(base["a"])


@pytest.mark.parametrize("combine", ["slerp", "nuslerp", "karcher", "linear"])
def test_rows_that_one_has_are_exact_whatever_the_combiner(combine: str, tmp_path: Path) -> None:
    a = written(tmp_path / "a", A, 0, dtype=torch.bfloat16)
    b = written(tmp_path / "b", B, 1, dtype=torch.bfloat16)
    done = merge(
        a, b, "--weights", "0.3,0.7", "--combine", combine, "--tokenizer", "union", "-o", f"{tmp_path / 'o'}/"
    )
    assert done.code == 0, done.err
    ours = by_token(tmp_path / "o")
    assert ours["a"].equal(by_token(a)["a"])
    assert ours["x"].equal(by_token(b)["x"])
    assert ours["b"].dtype == torch.bfloat16
    assert not ours["b"].equal(by_token(a)["b"])


def test_padding(tmp_path: Path) -> None:
    a, b = (
        written(tmp_path / "a", A, 0, padding=3),
        written(tmp_path / "b", [*B, "y", "z", "v"], 1, padding=8),
    )
    done = merge(a, b, "--tokenizer", "union", "-o", f"{tmp_path / 'o'}/")
    assert done.code == 0, done.err
    ours, theirs = weights(tmp_path / "o"), weights(a)
    assert [len(ours[name]) for name in ("wte.weight", "lm_head.bias")] == [16, 16]
    assert ours["lm_head.bias"][9:].eq(theirs["lm_head.bias"][7]).all()
    assert ours["wte.weight"][5].equal(by_token(b)["x"])
    merge(a, b, "--tokenizer", "A", "-o", tmp_path / "o.safetensors")
    alone = load_file(tmp_path / "o.safetensors")
    assert alone["wte.weight"][5:].equal(theirs["wte.weight"][5:])


def test_shards_and_threads_change_nothing(three: list[Path], tmp_path: Path) -> None:
    how = ("--tokenizer", "union", "--dtype", "bfloat16")
    assert merge(*three, *how, "-o", f"{tmp_path / 'one'}/").code == 0
    done = merge(*three, *how, "--max-shard-size", "300", "--threads", "3", "-o", f"{tmp_path / 'many'}/")
    assert done.code == 0, done.err
    assert len(done.json["files"]) > 5
    one, many = weights(tmp_path / "one"), weights(tmp_path / "many")
    assert all(many[name].equal(w) for name, w in one.items())
    assert json.loads((tmp_path / "many" / "config.json").read_text())["vocab_size"] == len(one["wte.weight"])


def relatives(tmp_path: Path) -> tuple[Path, list[Path]]:
    """A, and two networks that are A with their hidden units moved, and huge rows of their own tokens."""
    a, sources = written(tmp_path / "a", A, 0), []
    (tmp_path / "s.toml").write_text(SPEC)
    mine = by_token(a), by_token(a, "lm_head.weight")
    for seed, words in ((1, B), (2, C)):
        folder = written(tmp_path / str(seed), words, seed)
        own, rng = weights(folder), torch.Generator().manual_seed(seed)
        d, k = torch.randperm(6, generator=rng), torch.randperm(8, generator=rng)
        for row, token in enumerate([*words, END]):
            own["wte.weight"][row] = (
                mine[0][token][d] if token in mine[0] else 30 * torch.randn(6, generator=rng)
            )
            own["lm_head.weight"][row] = (
                mine[1][token][k] if token in mine[1] else 30 * torch.randn(8, generator=rng)
            )
        own["fc.weight"] = weights(a)["fc.weight"][k][:, d].contiguous()
        save_file(own, folder / "model.safetensors")
        sources.append(folder)
    return a, sources


@pytest.mark.parametrize("options", [("-m", "weights"), ("-m", "weights", "--onto", "universe")])
def test_units_are_matched_by_the_rows_that_all_share(options: tuple[str, ...], tmp_path: Path) -> None:
    """B and C are A with their hidden units moved; the rows of their own tokens would mislead."""
    a, sources = relatives(tmp_path)
    done = deepalign(
        "merge", a, *sources, *options, "--spec", tmp_path / "s.toml", "--tokenizer", "union", "--json",
        "-o", f"{tmp_path / 'o'}/",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert torch.allclose(weights(tmp_path / "o")["fc.weight"], weights(a)["fc.weight"], atol=1e-6)
    assert torch.allclose(by_token(tmp_path / "o")["u"], by_token(a)["u"], atol=1e-6)
    assert deepalign("inspect", tmp_path / "o", "--json").code == 0  # the spec in the metadata fits


def test_tensors_of_other_shapes_besides(tmp_path: Path) -> None:
    a, b = written(tmp_path / "a", A, 0), written(tmp_path / "b", B, 1)
    for folder, classes in ((a, 3), (b, 2)):
        save_file({**weights(folder), "score.weight": torch.randn(classes, 8)}, folder / "model.safetensors")
    assert merge(a, b, "--tokenizer", "union", "-o", f"{tmp_path / 'o'}/").code == 3
    done = merge(a, b, "--tokenizer", "union", "--partial", "-o", f"{tmp_path / 'o'}/")
    assert done.code == 0, done.err
    assert done.json["own"] == ["score.weight"]
    assert weights(tmp_path / "o")["score.weight"].equal(weights(a)["score.weight"])
    assert len(weights(tmp_path / "o")["wte.weight"]) == 6


def test_partial_lists_what_is_left_in_json(tmp_path: Path) -> None:
    a, b = written(tmp_path / "a", A, 0), written(tmp_path / "b", [*B, "y"], 1)
    done = merge(a, b, "--partial", "-o", tmp_path / "o.safetensors")
    assert done.json["own"] == ["lm_head.bias", "lm_head.weight", "wte.weight"]
    assert "vocabulary" not in done.json
    assert "own" not in merge(a, a, "-o", tmp_path / "p.safetensors").json


def test_a_dry_run_tells_the_rows(three: list[Path], tmp_path: Path) -> None:
    done = merge(*three, "--tokenizer", "union", "--dry-run", "-o", f"{tmp_path / 'o'}/")
    assert done.code == 0, done.err
    shapes = {one["name"]: one["shape"] for one in done.json["tensors"]}
    assert shapes["wte.weight"] == [7, 6]
    assert "tokens of c that a lacks, added: 2" in done.json["notes"]
    assert not (tmp_path / "o").exists()


REFUSED = {
    "one file": (("--tokenizer", "union", "-o", "o.safetensors"), 2, "for a folder"),
    "dreams": (
        ("--tokenizer", "A", "--data", "dream", "-o", "o/"), 2, "--tokenizer and dreams exclude each other",
    ),
    "repair": (
        ("--tokenizer", "A", "--repair", "x.npz", "-o", "o/"), 2, "exclude",
    ),
    "what others have learned of new tokens": (
        ("--tokenizer", "union", "--combine", "fisher", "--data", "x.npz", "-o", "o/"), 2, "--tokenizer A",
    ),
    "another word": (("--tokenizer", "base", "-o", "o/"), 2, "'base'"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_go_together(
    case: str, three: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, code, why = REFUSED[case]
    monkeypatch.chdir(tmp_path)
    done = merge(*three[:2], *options)
    assert done.code == code
    assert why in done.err
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "c"}


def test_inputs_that_have_no_tokens(three: list[Path], tmp_path: Path) -> None:
    a, b, _ = three
    done = merge(a, b / "model.safetensors", "--tokenizer", "A", "-o", f"{tmp_path / 'o'}/")
    assert done.code == 2
    assert "is not a folder of transformers" in done.err
    (b / "tokenizer.json").unlink()
    assert merge(a, b, "--tokenizer", "A", "-o", f"{tmp_path / 'o'}/").error["code"] == "mismatch"
    write_tokenizer(b, fast_table(["v", "w"], ()))
    assert "share no token" in merge(a, b, "--tokenizer", "A", "-o", f"{tmp_path / 'o'}/").err
    (b / "tokenizer.json").write_text("{")
    assert merge(a, b, "--tokenizer", "A", "-o", f"{tmp_path / 'o'}/").error["code"] == "checkpoint"
    assert not (tmp_path / "o").exists()


def test_tokens_beyond_the_rows_are_told_and_left_out(tmp_path: Path) -> None:
    a, b = written(tmp_path / "a", A, 0), written(tmp_path / "b", B, 1)
    for folder, words in ((a, A), (b, B)):
        table = fast_table(words, (END, "<pad>"))
        table["model"]["unk_token"] = "u"
        write_tokenizer(folder, table)
    done = merge(a, b, "--tokenizer", "A", "-o", f"{tmp_path / 'o'}/")
    assert done.code == 0, done.err
    assert "a has no row for '<pad>' of its tokenizer" in done.json["notes"]
    done = merge(a, b, "--tokenizer", "union", "-o", f"{tmp_path / 'p'}/")
    assert done.code == 3
    assert "'<pad>', for which no network has a row" in done.err


def test_the_rows_may_be_named_in_the_part_on_text(tmp_path: Path) -> None:
    a, b = written(tmp_path / "a", A, 0), written(tmp_path / "b", [*B, "y"], 1)
    config = a / "config.json"
    config.write_text(json.dumps({"text_config": {"vocab_size": 5, "x": 1.5}}))
    assert merge(a, b, "--tokenizer", "union", "-o", f"{tmp_path / 'o'}/").code == 0
    assert json.loads((tmp_path / "o" / "config.json").read_text()) == {
        "text_config": {"vocab_size": 7, "x": 1.5}
    }


def test_rows_of_other_tokens_are_told_of(tmp_path: Path) -> None:
    """Of one size, but in another order: nothing else would show that they do not belong together."""
    a, b = written(tmp_path / "a", A, 0), written(tmp_path / "b", A[::-1], 1)
    notes = merge(a, b, "-o", tmp_path / "o.safetensors").json["notes"]
    assert notes == [
        "'u' has another row in b than in a, and so have 3 more tokens: --tokenizer A or union merges them "
        "token by token"
    ]
    write_tokenizer(b, {**fast_table(A), "version": "other"})
    assert "notes" not in merge(a, b, "-o", tmp_path / "p.safetensors").json
    (b / "tokenizer.json").write_text("{")
    assert "notes" not in merge(a, b, "-o", tmp_path / "q.safetensors").json


NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(5, 6)
        self.fc = nn.Linear(6, 8, bias=False)
        self.lm_head = nn.Linear(8, 5)

    def forward(self, x):
        return self.lm_head(torch.relu(self.fc(self.wte(x))))

def make():
    return Net()
"""


def on_texts(folder: Path) -> list[object]:
    """Options for a network to run, and texts in A's tokens."""
    (folder / "net.py").write_text(NET)
    (folder / "s.toml").write_text(SPEC)
    shared = torch.tensor([0, 2, 3, 4])  # of A and B
    tokens = shared[torch.randint(4, (40, 7), generator=torch.Generator().manual_seed(0))]
    save_file({"inputs": tokens[:, :-1].clone(), "labels": tokens[:, 1:].clone()}, folder / "t.safetensors")
    data = ["--data", folder / "t.safetensors", "--model", f"{folder / 'net.py'}:make"]
    return [*data, "--spec", folder / "s.toml"]


@pytest.mark.parametrize("tokens", ["A", "union"])
def test_data_are_texts_in_the_first_ones_tokens(tokens: str, tmp_path: Path) -> None:
    a, (b, _) = relatives(tmp_path)
    use = ("merge", a, b, "--tokenizer", tokens, *on_texts(tmp_path), "-o", f"{tmp_path / 'o'}/")
    done = deepalign(*use, "-m", "activations", "--json")
    assert done.code == 0, done.err
    merged = weights(tmp_path / "o")
    assert torch.allclose(merged["fc.weight"], weights(a)["fc.weight"], atol=1e-6)
    assert len(merged["wte.weight"]) == (5 if tokens == "A" else 6)
    card = (tmp_path / "o" / "README.md").read_text()
    assert "the merged network" in card.partition("## What it costs")[2]


def test_what_data_tell_of_rows_is_of_the_first_ones(tmp_path: Path) -> None:
    a, (b, _) = relatives(tmp_path)
    for combine in ("fisher", "regmean"):
        out = tmp_path / combine
        use = (
            "--tokenizer",
            "A",
            *on_texts(tmp_path),
            "--combine",
            combine,
            "-o",
            f"{out}/",
            "-m",
            "weights",
        )
        done = deepalign("merge", a, b, *use, "--json")
        assert done.code == 0, done.err
        ours = by_token(out, "lm_head.weight")
        assert ours["a"].equal(by_token(a, "lm_head.weight")["a"])  # which b lacks
        assert torch.allclose(ours["u"], by_token(a, "lm_head.weight")["u"], atol=1e-4)


@pytest.mark.parametrize("tokens", ["A", "union"])
def test_an_alignment_is_kept_and_used_in_other_tokens(tokens: str, tmp_path: Path) -> None:
    a, (b, _) = relatives(tmp_path)
    (tmp_path / "s.toml").write_text(SPEC)
    use = ("merge", a, b, "--spec", tmp_path / "s.toml", "--json", "--tokenizer")
    kept = tmp_path / "ab.alignment"
    first = deepalign(*use, "A", "-m", "weights", "--save-alignment", kept, "-o", f"{tmp_path / 'o'}/")
    assert first.code == 0, first.err
    again = deepalign("merge", a, b, "--alignment", kept, "--tokenizer", tokens, "-o", f"{tmp_path / 'p'}/")
    found = deepalign(*use, tokens, "-m", "weights", "-o", f"{tmp_path / 'q'}/")
    assert (again.code, found.code) == (0, 0), again.err
    expected = weights(tmp_path / "q")
    assert all(w.equal(expected[name]) for name, w in weights(tmp_path / "p").items())
    other = deepalign("merge", b, a, "--alignment", kept, "--tokenizer", tokens, "-o", f"{tmp_path / 'r'}/")
    assert other.code == 3
    assert "sha256 differs" in other.err


def test_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, (b, _) = relatives(tmp_path)
    (tmp_path / "s.toml").write_text(SPEC)
    how = ("--spec", tmp_path / "s.toml", "-m", "weights", "--tokenizer", "union", "--json")
    assert deepalign("merge", a, b, *how, "-o", f"{tmp_path / 'here'}/").code == 0
    with serve(tmp_path / "home", monkeypatch) as hub:
        for folder in (a, b):
            hub.add(f"org/{folder.name}", {path.name: path.read_bytes() for path in folder.iterdir()})
        done = deepalign("merge", "hf://org/a", f"hf://org/{b.name}", *how, "-o", f"{tmp_path / 'there'}/")
    forget()
    assert done.code == 0, done.err
    for name in ("tokenizer.json", "config.json"):
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    expected = weights(tmp_path / "here")
    assert all(w.equal(expected[name]) for name, w in weights(tmp_path / "there").items())
    assert "vocabulary" in done.json


@pytest.mark.parametrize("more", [(), ("--max-shard-size", "300")])
def test_no_old_tokenizer_is_left_to_be_loaded(
    more: tuple[str, ...], three: list[Path], tmp_path: Path
) -> None:
    old, stale = tmp_path / "o", ("vocab.json", "merges.txt", "special_tokens_map.json", "spiece.model")
    old.mkdir()
    for name in (*stale, "LICENSE"):
        (old / name).write_text("{}")
    use = ("--tokenizer", "union", *more, "-o", f"{old}/")
    done = merge(*three, *use)
    assert done.code == 2
    assert "is part of another tokenizer" in done.err
    assert {path.name for path in old.iterdir()} == {*stale, "LICENSE"}
    done = merge(*three, *use, "--force")
    assert done.code == 0, done.err
    assert {path.name for path in old.iterdir()} == {"LICENSE", *done.json["files"]}
    assert "tokenizer.json" in done.json["files"]

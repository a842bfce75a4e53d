from __future__ import annotations

import math
from dataclasses import replace

import pytest
import yaml
from markdown_it import MarkdownIt

from deepalign_cli.measure.curve import Curve
from deepalign_cli.operations.card import Facts, Ingredient, card, code, escaped
from deepalign_cli.operations.merge_cost import Measured

FACTS = Facts(
    title="merged",
    inputs=[
        Ingredient("hf://org/a@0123", "1" * 64, 0.7, "org/a"),
        Ingredient("b.pt", "2" * 64, 0.3, None, (25.123, 11.5)),
    ],
    method="deepalign",
    combiner="linear",
    making={"network.name": "universal-v1", "seed": "0"},
    command=["deepalign", "merge", "hf://org/a@0123", "b.pt", "--alpha", "0.3", "-o", "my merge/"],
    library="transformers",
    moved=(1020, 1024),
    basis="traced and checked",
    notes=["BatchNorm statistics were averaged"],
)
LINE = Curve("naive", (0.0, 0.5, 1.0), (0.1, 1.1, 0.3), (0.9, 0.5, 0.7), data="digits, test")
NETWORKS = [
    Measured("hf://org/a@0123", "digits, test", 0.1, 0.9), Measured("b.pt", "digits, test", 0.3, 0.7),
    Measured("the merged network", "digits, test", 0.2, None),
]  # fmt: skip
BAD = Curve("weights", (0.0, 0.5, 1.0), (0.1, math.inf, 0.3))
HOSTILE = [
    "</td><script>alert(1)</script>",
    "![x](http://evil/x.png)",
    "a|b\n| c |\n---\n# title",
    "`ticks`` and ```",
    "x\u202egpj.exe\x1b[31m",
    "&lt;b&gt; *bold* _it_ ~~no~~ [l](u) @someone $x$",
    "\udcff.pt",
    "",
    "\n",
]


def front(text: str) -> dict[str, object]:
    start, middle, _ = text.split("---\n", 2)
    assert start == ""
    return dict(yaml.safe_load(middle))


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the table under a heading."""
    part = text.split(f"## {heading}\n", 1)[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if "---" not in line]


def test_what_the_hub_reads() -> None:
    assert front(card(FACTS)) == {
        "library_name": "transformers", "base_model": ["org/a"], "base_model_relation": "merge",
        "tags": ["merge", "deepalign"],
    }  # fmt: skip
    local = replace(FACTS, inputs=[replace(one, repository=None) for one in FACTS.inputs])
    assert front(card(local)) == {"library_name": "transformers", "tags": ["merge", "deepalign"]}
    twice = replace(FACTS, inputs=[FACTS.inputs[0], FACTS.inputs[0]])
    assert front(card(twice))["base_model"] == ["org/a"]


def test_inputs_and_making() -> None:
    text = card(FACTS)
    assert rows(text, "Inputs")[1:] == [
        ["`hf://org/a@0123`", "0.7", "-", "-", f"`{'1' * 64}`"],
        ["`b.pt`", "0.3", "25.12", "11.5", f"`{'2' * 64}`"],
    ]
    assert rows(text, "How it was made")[1:] == [
        ["method", "`deepalign`"], ["network.name", "`universal-v1`"], ["seed", "`0`"],
        ["units moved", "1,020 of 1,024"],
    ]  # fmt: skip
    assert "```sh\ndeepalign merge hf://org/a@0123 b.pt --alpha 0.3 -o 'my merge/'\n```" in text


def test_limits() -> None:
    text = card(FACTS)
    assert "No loss was measured" in text
    assert "- BatchNorm statistics were averaged\n" in text
    assert "licences" in text
    assert "What it costs" not in text
    assert "moved onto those of the first" in text
    assert "were not aligned" in card(replace(FACTS, method="none"))


def test_networks_curves_and_their_picture() -> None:
    text = card(replace(FACTS, networks=NETWORKS, curves=[LINE, BAD], picture="curve.png"))
    networks, curves = rows(text, "What it costs")[1:4], rows(text, "What it costs")[5:]
    assert networks == [
        ["`hf://org/a@0123`", "`digits, test`", "0.1000", "90.00 %"],
        ["`b.pt`", "`digits, test`", "0.3000", "70.00 %"],
        ["**the merged network**", "`digits, test`", "0.2000", "-"],
    ]
    assert curves == [
        ["`naive`", "`digits, test`", "0.9000", "0.4500", "1.1000", "50.00 %"],
        ["`weights`", "-", "not finite", "not finite", "not finite", "-"],
    ]
    assert "![Loss along the path](<curve.png>)" in text
    assert "No loss was measured" not in text
    without = card(replace(FACTS, networks=NETWORKS))
    assert len(rows(without, "What it costs")) == 4
    assert "along the path" not in without


def test_the_combiner_says_what_the_network_is() -> None:
    assert "The average of 2 networks." in card(FACTS)
    assert "A point on the arc between 2 networks." in card(replace(FACTS, combiner="slerp"))


def parsed(text: str) -> list[str]:
    """The kinds of what a reader of Markdown makes of a card's body, HTML allowed."""
    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    blocks = reader.parse(text.split("---\n", 2)[2])
    return [token.type for block in blocks for token in (block, *(block.children or ()))]


@pytest.mark.parametrize(
    "text", [*HOSTILE, "a\\|b", "[x]: http://evil", "- x", "12. x", "3) x", "+ x", "a\\"]
)
def test_names_from_strangers_are_text(text: str) -> None:
    def about(name: str) -> str:
        inputs = [replace(one, name=name) for one in FACTS.inputs]
        curve = replace(LINE, method=name, data=name)
        networks = [replace(one, name=name, data=name) for one in NETWORKS[:2]]
        return card(
            replace(
                FACTS, title=name, inputs=inputs, method=name, making={name: name}, notes=[name],
                command=["deepalign", name], networks=networks, curves=[curve],
            )
        )  # fmt: skip

    made = about(text)
    made.encode()  # no lone surrogates
    assert front(made) == front(card(FACTS))
    assert not {"\x1b", "\u202e"} & set(made)
    kinds = [kind for kind in parsed(made) if kind not in ("code_inline", "text", "text_special")]
    plain = [kind for kind in parsed(about("plain")) if kind not in ("code_inline", "text")]
    assert kinds == plain


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.pt", "`a.pt`"),
        ("a|b", r"`a\x7cb`"),
        ("a`b", "``a`b``"),
        ("`a", "`` `a ``"),
        ("```", "```` ``` ````"),
        ("a\nb", "`a\\nb`"),
        ("", "-"),
        (" a", "`  a `"),
    ],
)
def test_code_spans(text: str, expected: str) -> None:
    assert code(text) == expected


def test_escaped() -> None:
    assert escaped("a_b <i> [x](y) `c` a|b\n") == r"a\_b \<i\> \[x\]\(y\) \`c\` a\|b\\n"
    assert escaped(" ") == "unnamed"


def test_a_merge_in_which_nothing_moved_does_not_say_otherwise() -> None:
    assert "No hidden unit was moved" in card(replace(FACTS, method="weights", moved=(0, 8)))
    assert "No hidden unit was moved" not in card(replace(FACTS, method="weights", moved=(1, 8)))

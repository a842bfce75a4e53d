#!/usr/bin/env bash
# tokenizers 0.23.3 with transformers 5.24.0: a tokenizer.json says which row an added token has, and is not obeyed.
#
# Expected: "id" in a file's added_tokens is the row of the embedding that belongs to the token. Of a model with rows 0 to 2, and
# "<x>" at 4, "<y>" at 3, these are the rows after loading; a file that cannot be obeyed is refused.
# Seen: ids are dealt out in the order of the list: "<x>" gets 3 and "<y>" gets 4, so that each reads the other's row; a lone
# token at 5 gets 3. Nothing is raised, and AutoTokenizer does the same, also where tokenizer_config.json names the row.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q tokenizers==0.23.3 transformers==5.24.0
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
import json
from pathlib import Path

import tokenizers
import transformers

WORDS = {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "c": 2}, "unk_token": "a"}
FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def rows(**asked: int) -> dict[str, int]:
    """The rows that added tokens get, of those that the file asks for."""
    folder = Path("-".join(asked))
    folder.mkdir()
    names = {f"<{name}>": row for name, row in asked.items()}
    added = [{"id": row, "content": name, **FLAGS} for name, row in names.items()]
    file = {"version": "1.0", "added_tokens": added, "model": WORDS, "pre_tokenizer": {"type": "Whitespace"}}
    file |= dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder"))
    (folder / "tokenizer.json").write_text(json.dumps(file))
    decoder = {str(entry["id"]): {"content": entry["content"], **FLAGS} for entry in added}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "added_tokens_decoder": decoder}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    read = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    auto = transformers.AutoTokenizer.from_pretrained(str(folder))
    found = {name: read.token_to_id(name) for name in names}
    assert found == {name: auto.convert_tokens_to_ids(name) for name in names}, "the two libraries differ"
    return found


swapped, lone = rows(x=4, y=3), rows(z=5)
print(f"tokenizers {tokenizers.__version__}: x at 4, y at 3 become {swapped}; z at 5 becomes {lone}")
assert swapped == {"<x>": 3, "<y>": 4}, "the order of rows is obeyed"
assert lone == {"<z>": 3}, "the row is obeyed"
PYTHON

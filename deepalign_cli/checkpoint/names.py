"""Names of tensors: which are allowed, and what wrappers put before all of them or into some."""

from __future__ import annotations

import re
from collections.abc import Iterable

from deepalign_cli.checkpoint.problems import Malformed, shown

MAX_NAME = 1024
AVERAGED = "n_averaged"  # what torch's AveragedModel has beside its `module`
PREFIXES = ("module.", "model.", "_orig_mod.")
_COMPILED = re.compile(r"(?:(?<=\.)|^)(?:_orig_mod\.)+")


def check_name(name: object) -> str:
    """The name, if it can be written to a safetensors file and shown on a terminal.

    Raises Malformed otherwise.
    """
    if not isinstance(name, str):
        raise Malformed(f"a tensor's name is {shown(name)}, not text")
    if not name or name == "__metadata__":
        raise Malformed(f"a tensor has the name {shown(name)}")
    if len(name) > MAX_NAME:
        raise Malformed(f"a tensor's name is longer than {MAX_NAME} characters: {shown(name)}")
    if not name.isprintable():
        raise Malformed(f"a tensor's name holds characters that cannot be printed: {shown(name)}")
    return name


def common_prefix(names: Iterable[str]) -> str:
    """The longest run of `module.`, `model.` and `_orig_mod.` that stands before every name.

    No name is ever left empty, and `n_averaged` does not count.
    """
    names, prefix = list(names), ""
    names = [name for name in names if name != AVERAGED] or names
    while longer := next((prefix + p for p in PREFIXES if names and names[0].startswith(prefix + p)), None):
        if not all(name.startswith(longer) and len(name) > len(longer) for name in names):
            break
        prefix = longer
    return prefix


def logical_names(names: Iterable[str], prefix: str) -> dict[str, str]:
    """Each name without the prefix and the `_orig_mod.` that compiled submodules put inside names.

    The latter stay where two names would become one.
    """
    cut = {name: name.removeprefix(prefix) for name in names}
    plain = {name: _COMPILED.sub("", short) or short for name, short in cut.items()}
    return plain if len(set(plain.values())) == len(plain) else cut

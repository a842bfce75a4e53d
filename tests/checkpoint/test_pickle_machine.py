"""Hostile pickles: each is refused, and none of them gets anything done."""

from __future__ import annotations

import os
import pickle
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deepalign_cli.checkpoint import open_checkpoint, pickle_machine
from deepalign_cli.checkpoint.pickle_machine import PickleMachine
from deepalign_cli.checkpoint.problems import Malformed
from deepalign_cli.errors import CheckpointError, UnsafeCheckpointError
from tests.checkpoint.builders import (
    FOUR,
    Calls,
    call,
    global_,
    number,
    state,
    storage,
    tensor,
    text,
    torch_zip,
)


def touch(sentinel: Path) -> str:
    return f"touch '{sentinel}'"


# Each makes a pickle that creates the sentinel if it is run, and says which name the refusal must give.
HOSTILE: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "os.system": (lambda s: state(a=call(os.system, touch(s))), f"{os.name}.system"),
    "at the top": (lambda s: b"\x80\x02" + call(os.system, touch(s)) + b".", "system"),
    "builtins.eval": (lambda s: state(a=call(eval, f"open({str(s)!r}, 'w').close()")), "builtins."),
    "builtins.exec": (lambda s: state(a=call(exec, f"open({str(s)!r}, 'w').close()")), "builtins."),
    "builtins.getattr": (
        lambda s: state(a=global_("builtins", "getattr") + b"(" + global_("os", "path") + text("x") + b"tR"),
        "builtins.getattr",
    ),
    "subprocess.Popen": (lambda s: state(a=call(subprocess.Popen, ["touch", str(s)])), ".Popen"),
    "nested reduce": (
        lambda s: state(
            w=global_("torch._utils", "_rebuild_parameter") + b"(" + call(os.system, touch(s)) + b"\x89)tR"
        ),
        "system",
    ),
    "a stand-in as the function": (
        lambda s: state(w=global_("argparse", "Namespace") + b")R" + b"(" + text(touch(s)) + b"tR"),
        "not a known function",
    ),
    "through _rebuild_from_type_v2": (
        lambda s: state(
            w=global_("torch._tensor", "_rebuild_from_type_v2")
            + b"("
            + global_("os", "system")
            + global_("torch", "Tensor")
            + b"("
            + text(touch(s))
            + b"t}tR"
        ),
        "os.system",
    ),
    "persistent id": (lambda s: state(w=call(os.system, touch(s)) + b"Q"), "system"),
    "storage type": (lambda s: state(w=tensor(storage(kind=global_("os", "system")))), "os.system"),
    "storage key": (
        lambda s: state(
            w=tensor(
                b"("
                + text("storage")
                + global_("torch", "FloatStorage")
                + call(os.system, touch(s))
                + text("cpu")
                + number(4)
                + b"tQ"
            )
        ),
        "system",
    ),
    "protocol 4": (
        lambda s: b"\x80\x04\x8c\x02os\x8c\x06system\x93" + text(touch(s)) + b"\x85R.",
        "os.system",
    ),
    "dotted name": (
        lambda s: b"\x80\x04\x8c\x05torch\x8c\x17serialization.os.system\x93" + text(touch(s)) + b"\x85R.",
        "torch.serialization.os.system",
    ),
    "INST": (lambda s: b"\x80\x02(" + text(touch(s)) + b"ios\nsystem\n.", "opcode 0x69"),
    "OBJ": (lambda s: b"\x80\x02(" + global_("os", "system") + text(touch(s)) + b"o.", "os.system"),
    "EXT": (lambda s: b"\x80\x02\x82\x01" + text(touch(s)) + b"\x85R.", "opcode 0x82"),
    "NEWOBJ_EX": (
        lambda s: b"\x80\x04" + global_("subprocess", "Popen") + b"(" + text(touch(s)) + b"t}\x92.",
        "Popen",
    ),
    "Python 2's name": (
        lambda s: state(a=global_("__builtin__", "eval") + text("1") + b"\x85R"),
        "builtins.eval",
    ),
    "storage from bytes": (
        lambda s: state(a=global_("torch.storage", "_load_from_bytes") + b"C\x04abcd\x85R"),
        "_load_from_bytes",
    ),
    "a pickled module": (
        lambda s: state(a=global_("torch.nn.modules.linear", "Linear") + b")\x81"),
        "Linear",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_pickles_are_refused_and_do_nothing(tmp_path: Path, case: str) -> None:
    make, part = HOSTILE[case]
    sentinel = tmp_path / "sentinel"
    path = torch_zip(tmp_path / "x.pt", make(sentinel), FOUR)
    with pytest.raises(UnsafeCheckpointError) as caught:
        open_checkpoint(path)
    assert caught.value.message.startswith(f"{path}: ")
    assert part in caught.value.message
    assert "safetensors" in caught.value.hint
    assert not sentinel.exists()


@pytest.mark.parametrize("case", ["os.system", "at the top", "builtins.eval", "protocol 4", "INST", "OBJ"])
def test_they_are_hostile_indeed(tmp_path: Path, case: str) -> None:
    sentinel = tmp_path / "sentinel"
    pickle.loads(HOSTILE[case][0](sentinel))
    assert sentinel.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_bare_pickle_is_refused_unread(tmp_path: Path, protocol: int) -> None:
    sentinel = tmp_path / "sentinel"
    path = tmp_path / "x.pt"
    path.write_bytes(pickle.dumps(Calls(os.system, touch(sentinel)), protocol))
    with pytest.raises(UnsafeCheckpointError, match="bare pickle") as caught:
        open_checkpoint(path)
    assert caught.value.hint
    assert not sentinel.exists()


def test_state_sets_no_attribute(tmp_path: Path) -> None:
    """BUILD would set `__class__`, `__reduce__` or anything else."""
    evil = b"}" + text("__setstate__") + global_("torch", "Size") + b"s"
    pickled = state(w=tensor(storage()), n=global_("argparse", "Namespace") + b")\x81" + evil + b"b")
    checkpoint = open_checkpoint(torch_zip(tmp_path / "x.pt", pickled, FOUR))
    assert checkpoint["w"].tolist() == [0, 1, 2, 3]
    assert checkpoint.notes == ("1 entry that is not a tensor was left out",)


BROKEN = {
    "empty": b"",
    "no stop": b"\x80\x02}",
    "nothing on the stack": b"\x80\x02.",
    "protocol 9": b"\x80\x09}.",
    "unknown memo": b"\x80\x02h\x05.",
    "no mark": b"\x80\x02u.",
    "odd items": b"\x80\x02}(Nu.",
    "items of a number": b"\x80\x02K\1(NNu.",
    "append to a number": b"\x80\x02K\1Na.",
    "text of 4 GB": b"\x80\x02X\xff\xff\xff\xffabc.",
    "text of 2^63": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
    "bytes of 2^63": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
    "frame cut": b"\x80\x04\x95\xff\xff",
    "number of 2 GB": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "number of -1 bytes": b"\x80\x02\x8b\xff\xff\xff\xff.",
    "name without end": b"\x80\x02c" + b"a" * 5000,
    "name that is a number": b"\x80\x04K\1K\2\x93.",
    "bad text": b"\x80\x02X\2\0\0\0\xff\xfe.",
    "too few for a tuple": b"\x80\x02K\1\x87.",
    "a name that is not UTF-8": b"\x80\x02c\xff\nx\n.",
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_pickles_are_refused(tmp_path: Path, case: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(torch_zip(tmp_path / "x.pt", BROKEN[case]))
    assert caught.value.hint


BOMBS = {
    "marks": b"(" * 30_000,
    "tuples in tuples": b"N" + b"\x85" * 30_000 + b".",
    "a key of tuples in tuples": b"}N" + b"\x85" * 100_000 + b"Ns.",
    "lists in lists": b"]" * 30_000 + b"a" * 29_999 + b".",
    "a list of itself": b"]q\0h\0a.",
    "a mapping of itself": b"}q\0" + text("state_dict") + b"h\0s.",
    "doubling": b"N" + b"2\x86" * 30_000 + b".",
    "colliding keys": b"}(" + b"".join(number(i * (2**61 - 1)) + b"N" for i in range(20_000)) + b"u.",
}


@pytest.mark.slow
@pytest.mark.parametrize("case", BOMBS)
def test_bombs_are_refused_quickly(tmp_path: Path, case: str) -> None:
    path = torch_zip(tmp_path / "x.pt", b"\x80\x02" + BOMBS[case])
    start = time.perf_counter()
    with pytest.raises(CheckpointError):
        open_checkpoint(path)
    assert time.perf_counter() - start < 20


def test_steps_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_machine, "MAX_STEPS", 1000)
    with pytest.raises(Malformed, match="more than 1000 steps"):
        PickleMachine(b"N0" * 1000 + b".", lambda pid: pid).run()


VALUES = [
    {"a": [1, 2.5, None, True], "b": (1, "x", b"y"), "c": {"d": [], 3: ()}, "big": 2**100, "neg": -(2**40)},
    [list(range(300)), "é" * 300, b"z" * 300, 70000, -1, ("a",) * 5],
]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("value", VALUES)
def test_plain_values_come_out_as_they_are(value: object, protocol: int) -> None:
    if protocol == 2:
        value = {"no": "bytes"}  # which protocol 2 writes as a call
    assert PickleMachine(pickle.dumps(value, protocol), lambda pid: pid).run() == value

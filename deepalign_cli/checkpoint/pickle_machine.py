"""A pickle interpreter that can build plain values and nothing else.

Only the opcodes below exist. It imports nothing, calls nothing but the stand-ins of `pickle_values`, sets
no attribute, and does a bounded number of steps, so a hostile pickle can at worst be refused.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

from deepalign_cli.checkpoint.pickle_names import look_up
from deepalign_cli.checkpoint.pickle_values import INERT, Inert, Name
from deepalign_cli.checkpoint.problems import Forbidden, Malformed, shown

MAX_STEPS = 4_000_000
_SMALL_INT = 2**53  # larger keys could be made to collide


class PickleMachine:
    """Runs one pickle; `persistent` says what a persistent id stands for."""

    def __init__(self, data: bytes, persistent: Callable[[object], object]) -> None:
        self._data = data
        self._at = 0
        self._persistent = persistent
        self._stack: list[object] = []
        self._marks: list[list[object]] = []
        self._memo: dict[int, object] = {}

    def run(self) -> object:
        """The value that the pickle describes.

        Raises Malformed where it is broken or uses what no state dict needs; Forbidden where it asks
        for a global that is not allowed.
        """
        data, size = self._data, len(self._data)
        for _ in range(MAX_STEPS):
            if self._at >= size:
                raise Malformed("its pickle is cut short")
            code = data[self._at]
            self._at += 1
            if code == _STOP:
                return self._pop()
            step = _OPCODES.get(code)
            if step is None:
                raise Forbidden(f"its pickle uses the opcode {code:#04x}, which no state dict needs")
            step(self)
        raise Malformed(f"its pickle takes more than {MAX_STEPS} steps", "save only the model's state dict")

    def _take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise Malformed("its pickle is cut short")
        data = self._data[self._at : end]
        self._at = end
        return data

    def _skip(self, count: int) -> None:
        self._take(count)

    def _number(self, form: struct.Struct) -> int:
        value = form.unpack(self._take(form.size))[0]
        assert isinstance(value, int)
        return value

    def _line(self) -> str:
        end = self._data.find(b"\n", self._at, self._at + 512)
        if end < 0:
            raise Malformed("its pickle holds a name without end")
        line = self._take(end - self._at)
        self._at += 1
        return _text(line)

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _pop(self) -> object:
        if not self._stack:
            raise Malformed("its pickle takes from an empty stack")
        return self._stack.pop()

    def _top(self) -> object:
        if not self._stack:
            raise Malformed("its pickle takes from an empty stack")
        return self._stack[-1]

    def _pop_to_mark(self) -> list[object]:
        if not self._marks:
            raise Malformed("its pickle lacks a mark")
        items = self._stack
        self._stack = self._marks.pop()
        return items

    def _mark(self) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _proto(self) -> None:
        version = self._take(1)[0]
        if version > 5:
            raise Malformed(f"its pickle is of protocol {version}, which does not exist")

    def _put(self, index: int) -> None:
        self._memo[index] = self._top()

    def _get(self, index: int) -> None:
        if index not in self._memo:
            raise Malformed("its pickle refers to something it has not made")
        self._push(self._memo[index])

    def _tuple(self, count: int) -> None:
        if len(self._stack) < count:
            raise Malformed("its pickle takes from an empty stack")
        items = tuple(self._stack[len(self._stack) - count :])
        del self._stack[len(self._stack) - count :]
        self._push(items)

    def _long(self, count: int) -> None:
        if not 0 <= count <= 255:
            raise Malformed(f"its pickle holds a number of {count} bytes")
        self._push(int.from_bytes(self._take(count), "little", signed=True))

    def _global(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise Malformed("its pickle asks for a global whose name is not text")
        self._push(look_up(module, name))

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        self._global(module, name)

    def _reduce(self) -> None:
        args, function = self._pop(), self._pop()
        if not isinstance(function, Name) or not isinstance(args, tuple):
            raise Forbidden("its pickle calls something that is not a known function")
        self._push(function.make(args))

    def _new_object_with_keywords(self) -> None:
        self._pop()
        self._reduce()

    def _build(self) -> None:
        """The state would become attributes; nothing here has any."""
        self._pop()
        self._top()

    def _append(self, items: list[object]) -> None:
        target = self._top()
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Inert):
            raise Malformed(f"its pickle appends to {shown(target)}")

    def _set_items(self, items: list[object]) -> None:
        target = self._top()
        if len(items) % 2:
            raise Malformed("its pickle holds a key without a value")
        if isinstance(target, dict):
            for key, value in zip(items[::2], items[1::2], strict=True):
                target[_key(key)] = value
        elif not isinstance(target, Inert):
            raise Malformed(f"its pickle sets items of {shown(target)}")

    def _discard_items(self) -> None:
        self._pop_to_mark()
        self._top()

    def _pop_mark(self) -> None:
        self._pop_to_mark()

    def _frozen_set(self) -> None:
        self._pop_to_mark()
        self._push(INERT)

    def _one_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._set_items([key, value])

    def _pop_quietly(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_to_mark()


class _OtherKey:
    """A key that is neither text nor a small number: it names no tensor, and hashing it may be unsafe."""

    __slots__ = ()


_OTHER_KEY = _OtherKey()


def _key(key: object) -> object:
    if isinstance(key, str) or (type(key) is int and abs(key) < _SMALL_INT):
        return key
    return _OTHER_KEY


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise Malformed("its pickle holds text that is not UTF-8") from None


_U1, _U2, _U4, _U8 = struct.Struct("<B"), struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<Q")
_I4 = struct.Struct("<i")
_F8 = struct.Struct(">d")
_STOP = ord(".")
_M = PickleMachine

# Every opcode there is; those of protocol 0, EXT, INST, OBJ and out-of-band buffers are missing on purpose.
_BY_NAME: Mapping[bytes, Callable[[PickleMachine], None]] = {
    b"\x80": _M._proto,
    b"\x95": lambda m: m._skip(8),  # FRAME
    b"(": _M._mark,
    b"0": _M._pop_quietly,
    b"1": _M._pop_mark,
    b"2": lambda m: m._push(m._top()),
    b"N": lambda m: m._push(None),
    b"\x88": lambda m: m._push(True),
    b"\x89": lambda m: m._push(False),
    b"K": lambda m: m._push(m._number(_U1)),
    b"M": lambda m: m._push(m._number(_U2)),
    b"J": lambda m: m._push(m._number(_I4)),
    b"\x8a": lambda m: m._long(m._number(_U1)),
    b"\x8b": lambda m: m._long(m._number(_I4)),
    b"G": lambda m: m._push(_F8.unpack(m._take(8))[0]),
    b"\x8c": lambda m: m._push(_text(m._take(m._number(_U1)))),
    b"X": lambda m: m._push(_text(m._take(m._number(_U4)))),
    b"\x8d": lambda m: m._push(_text(m._take(m._number(_U8)))),
    b"U": lambda m: m._push(m._take(m._number(_U1)).decode("latin-1")),
    b"C": lambda m: m._push(m._take(m._number(_U1))),
    b"B": lambda m: m._push(m._take(m._number(_U4))),
    b"\x8e": lambda m: m._push(m._take(m._number(_U8))),
    b")": lambda m: m._push(()),
    b"t": lambda m: m._push(tuple(m._pop_to_mark())),
    b"\x85": lambda m: m._tuple(1),
    b"\x86": lambda m: m._tuple(2),
    b"\x87": lambda m: m._tuple(3),
    b"]": lambda m: m._push([]),
    b"a": lambda m: m._append([m._pop()]),
    b"e": lambda m: m._append(m._pop_to_mark()),
    b"}": lambda m: m._push({}),
    b"s": _M._one_item,
    b"u": lambda m: m._set_items(m._pop_to_mark()),
    b"\x8f": lambda m: m._push(INERT),  # EMPTY_SET
    b"\x90": _M._discard_items,
    b"\x91": _M._frozen_set,
    b"q": lambda m: m._put(m._number(_U1)),
    b"r": lambda m: m._put(m._number(_U4)),
    b"\x94": lambda m: m._put(len(m._memo)),
    b"h": lambda m: m._get(m._number(_U1)),
    b"j": lambda m: m._get(m._number(_U4)),
    b"c": lambda m: m._global(m._line(), m._line()),
    b"\x93": _M._stack_global,
    b"R": _M._reduce,
    b"\x81": _M._reduce,  # NEWOBJ
    b"\x92": _M._new_object_with_keywords,
    b"b": _M._build,
    b"Q": lambda m: m._push(m._persistent(m._pop())),
}
_OPCODES: Mapping[int, Callable[[PickleMachine], None]] = {code[0]: step for code, step in _BY_NAME.items()}

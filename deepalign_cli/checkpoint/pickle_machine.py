"""A pickle interpreter that can build plain values and nothing else.

The standard library's `pickletools` reads the opcodes and their arguments; only those in the table below are
allowed. The machine imports nothing, calls nothing but the stand-ins of `pickle_values`, sets no attribute,
and does a bounded number of steps, so a hostile pickle can at worst be refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from deepalign_cli.checkpoint.pickle_names import look_up
from deepalign_cli.checkpoint.pickle_values import INERT, Inert, Name
from deepalign_cli.checkpoint.problems import Forbidden, Malformed, shown

if TYPE_CHECKING:
    from mmap import mmap
    from pickletools import OpcodeInfo

MAX_STEPS = 4_000_000
_SMALL_INT = 2**53  # larger keys could be made to collide
_LONGEST = 255 * 8  # bits of a number


class PickleMachine:
    """Runs one pickle, from the beginning of bytes or from where a mapped file stands.

    `persistent` says what a persistent id stands for.
    """

    def __init__(self, data: bytes | mmap, persistent: Callable[[object], object]) -> None:
        self._data = data
        self._persistent = persistent
        self._stack: list[object] = []
        self._marks: list[list[object]] = []
        self._memo: dict[int, object] = {}

    def run(self) -> object:
        """The value that the pickle describes.

        Raises Malformed where it is broken or uses what no state dict needs; Forbidden where it asks
        for a global that is not allowed.
        """
        import pickletools  # which the command line need not load at start
        import warnings

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of odd escapes in names
                return self._run(pickletools.genops(cast("bytes", self._data)))
        except ValueError as error:  # from pickletools
            raise Malformed(f"its pickle is cut short or broken: {shown(str(error))}") from None

    def _run(self, operations: Iterable[tuple[OpcodeInfo, Any, Any]]) -> object:
        for count, (opcode, argument, _) in enumerate(operations):
            if opcode.name == "STOP":
                return self._pop()
            if count == MAX_STEPS:
                break
            if opcode.name not in _ACTIONS:
                code = ord(opcode.code)
                raise Forbidden(f"its pickle uses the opcode {code:#04x}, which no state dict needs")
            _ACTIONS[opcode.name](self, argument)
        raise Malformed(f"its pickle takes more than {MAX_STEPS} steps", "save only the model's state dict")

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _pop(self) -> object:
        self._top()
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

    def _proto(self, version: int) -> None:
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
        items = [self._pop() for _ in range(count)]
        self._push(tuple(reversed(items)))

    def _long(self, number: int) -> None:
        if number.bit_length() > _LONGEST:
            raise Malformed(f"its pickle holds a number of {number.bit_length()} bits")
        self._push(number)

    def _global(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise Malformed("its pickle asks for a global whose name is not text")
        self._push(look_up(module, name))

    def _reduce(self) -> None:
        args, function = self._pop(), self._pop()
        if not isinstance(function, Name) or not isinstance(args, tuple):
            raise Forbidden("its pickle calls something that is not a known function")
        self._push(function.make(args))

    def _reduce_with_keywords(self) -> None:
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

    def _frozen_set(self) -> None:
        self._pop_to_mark()
        self._push(INERT)

    def _discard_items(self) -> None:
        self._pop_to_mark()
        self._top()

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


# What each opcode does, given its argument; those of protocol 0, EXT, INST, OBJ and out-of-band buffers are
# missing on purpose.
_Action = Callable[[PickleMachine, Any], object]
_VALUES = (
    "BININT1 BININT2 BININT BINFLOAT SHORT_BINUNICODE BINUNICODE BINUNICODE8 SHORT_BINSTRING BINSTRING "
    "SHORT_BINBYTES BINBYTES BINBYTES8"
)
_ACTIONS: Mapping[str, _Action] = {
    **dict.fromkeys(_VALUES.split(), lambda m, value: m._push(value)),
    **dict.fromkeys(("LONG1", "LONG4"), lambda m, number: m._long(number)),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), lambda m, index: m._put(index)),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda m, index: m._get(index)),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), lambda m, _: m._reduce()),
    "PROTO": lambda m, version: m._proto(version),
    "FRAME": lambda m, _: None,
    "MARK": lambda m, _: m._mark(),
    "POP": lambda m, _: m._pop_quietly(),
    "POP_MARK": lambda m, _: m._pop_to_mark(),
    "DUP": lambda m, _: m._push(m._top()),
    "NONE": lambda m, _: m._push(None),
    "NEWTRUE": lambda m, _: m._push(True),
    "NEWFALSE": lambda m, _: m._push(False),
    "EMPTY_TUPLE": lambda m, _: m._push(()),
    "TUPLE": lambda m, _: m._push(tuple(m._pop_to_mark())),
    "TUPLE1": lambda m, _: m._tuple(1),
    "TUPLE2": lambda m, _: m._tuple(2),
    "TUPLE3": lambda m, _: m._tuple(3),
    "EMPTY_LIST": lambda m, _: m._push([]),
    "APPEND": lambda m, _: m._append([m._pop()]),
    "APPENDS": lambda m, _: m._append(m._pop_to_mark()),
    "EMPTY_DICT": lambda m, _: m._push({}),
    "SETITEM": lambda m, _: m._set_items([m._pop(), m._pop()][::-1]),
    "SETITEMS": lambda m, _: m._set_items(m._pop_to_mark()),
    "EMPTY_SET": lambda m, _: m._push(INERT),
    "ADDITEMS": lambda m, _: m._discard_items(),
    "FROZENSET": lambda m, _: m._frozen_set(),
    "MEMOIZE": lambda m, _: m._put(len(m._memo)),
    "GLOBAL": lambda m, names: m._global(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m._global(*[m._pop(), m._pop()][::-1]),
    "NEWOBJ_EX": lambda m, _: m._reduce_with_keywords(),
    "BUILD": lambda m, _: m._build(),
    "BINPERSID": lambda m, _: m._push(m._persistent(m._pop())),
}

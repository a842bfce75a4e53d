"""The index of a zip file as `torch.save` writes it: members stored as they are, never compressed.

Our own reader, and not the standard library's, because it can be strict: what is not exactly such a file
is refused, before memory is spent on it. Nothing is ever decompressed, so there is no zip bomb to defuse:
compressed members may stand in the index (TorchScript compresses its code), but cannot be read.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from deepalign_cli.checkpoint.files import read_exactly
from deepalign_cli.checkpoint.problems import Malformed, shown

MAX_INDEX = 32 * 2**20
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_ENCRYPTED = 0x1


@dataclass(frozen=True, slots=True)
class Member:
    """One member: where its local header lies and how long it is."""

    name: str
    header: int
    size: int
    limit: int  # no member reaches beyond this byte
    packed: str = ""  # "compressed" or "encrypted": it cannot be read


def read_zip_index(file: BinaryIO, size: int) -> Mapping[str, Member]:
    """Every member by name.

    Raises Malformed where the index is broken or holds a name twice.
    """
    start, length, count = _find_index(file, size)
    if length > MAX_INDEX:
        raise Malformed(f"its zip index is {length} bytes long, more than {MAX_INDEX}")
    index = read_exactly(file, start, length, "its zip index")
    members: dict[str, Member] = {}
    at = 0
    while at < length:
        member, at = _central_entry(index, at, start)
        if member.name in members:
            raise Malformed(f"its zip index names {shown(member.name)} twice")
        members[member.name] = member
    if len(members) != count:
        raise Malformed(f"its zip index holds {len(members)} members where it says {count}")
    return members


def locate(file: BinaryIO, member: Member) -> int:
    """The byte at which the member's data begins.

    Raises Malformed where it is compressed or encrypted, the local header disagrees with the index, or the
    data would leave the file.
    """
    what = f"member {shown(member.name)} of the zip file"
    if member.packed:
        hint = "torch.save stores members as they are; unpack it, and save the state dict again"
        raise Malformed(f"{what} is {member.packed}", hint)
    fields = _LOCAL.unpack(read_exactly(file, member.header, _LOCAL.size, what))
    name = read_exactly(file, member.header + _LOCAL.size, fields[9], what)
    if fields[0] != b"PK\3\4" or fields[3] != 0 or name != member.name.encode():
        raise Malformed(f"{what} does not lie where the index says")
    begin: int = member.header + _LOCAL.size + fields[9] + fields[10]
    if begin + member.size > member.limit:
        raise Malformed(f"{what} would reach beyond the end of the data")
    return begin


def read_member(file: BinaryIO, member: Member, limit: int) -> bytes:
    """All of a member of at most `limit` bytes.

    Raises Malformed where it is longer, or broken.
    """
    if member.size > limit and not member.packed:
        raise Malformed(f"member {shown(member.name)} is {member.size} bytes long, more than {limit}")
    return read_exactly(file, locate(file, member), member.size, f"member {shown(member.name)}")


def _find_index(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Where the index starts, its length, and how many members it should hold."""
    tail_size = min(size, _END.size + 0xFFFF)
    tail = read_exactly(file, size - tail_size, tail_size, "its zip index")
    place = tail.rfind(b"PK\5\6")
    if place < 0 or len(tail) - place < _END.size:
        raise Malformed("the end of the zip file is missing")
    end = size - tail_size + place
    _, disk, first_disk, here, count, length, start, _ = _END.unpack_from(tail, place)
    if 0xFFFF in (disk, count) or 0xFFFFFFFF in (length, start):
        start, length, count, here, end = _find_index64(file, end)
    elif disk or first_disk:
        raise Malformed("it is one part of a zip file in several parts")
    if here != count or start + length > end:
        raise Malformed("its zip index does not lie within the file")
    return int(start), int(length), int(count)


def _find_index64(file: BinaryIO, end: int) -> tuple[int, int, int, int, int]:
    if end < _LOCATOR.size:
        raise Malformed("the end of the zip file is missing")
    magic, _, at, _ = _LOCATOR.unpack(read_exactly(file, end - _LOCATOR.size, _LOCATOR.size, "its zip index"))
    if magic != b"PK\6\7" or at > end - _LOCATOR.size:
        raise Malformed("the end of the zip file is broken")
    fields = _END64.unpack(read_exactly(file, at, _END64.size, "its zip index"))
    if fields[0] != b"PK\6\6":
        raise Malformed("the end of the zip file is broken")
    here, count, length, start = fields[6:]
    return start, length, count, here, at


def _central_entry(index: bytes, at: int, limit: int) -> tuple[Member, int]:
    if len(index) - at < _CENTRAL.size:
        raise Malformed("its zip index is cut short")
    fields = _CENTRAL.unpack_from(index, at)
    magic, flags, method, packed, size = fields[0], fields[3], fields[4], fields[8], fields[9]
    name_size, extra_size, comment_size, header = fields[10], fields[11], fields[12], fields[16]
    name_at = at + _CENTRAL.size
    extra_at = name_at + name_size
    after = extra_at + extra_size + comment_size
    if magic != b"PK\1\2" or after > len(index):
        raise Malformed("its zip index is broken")
    name = _member_name(index[name_at:extra_at])
    how = "encrypted" if flags & _ENCRYPTED else "compressed" if method else ""
    extra = index[extra_at : extra_at + extra_size]
    size, packed, header = _wide_fields(extra, size, packed, header)
    if (size != packed and not how) or header + _LOCAL.size + packed > limit:
        raise Malformed(f"member {shown(name)} of the zip file does not fit into it")
    return Member(name, header, size, limit, how), after


def _member_name(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("its zip index holds a name that is not UTF-8") from None


def _wide_fields(extra: bytes, *narrow: int) -> tuple[int, ...]:
    """The fields, each that was too wide for its place taken from the zip64 record."""
    wide = iter(_zip64_record(extra))
    try:
        return tuple(next(wide) if value == 0xFFFFFFFF else value for value in narrow)
    except (StopIteration, RuntimeError):
        raise Malformed("its zip index is broken") from None


def _zip64_record(extra: bytes) -> tuple[int, ...]:
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        body = extra[at + 4 : at + 4 + length]
        if kind == 1:
            return struct.unpack(f"<{len(body) // 8}Q", body[: len(body) // 8 * 8])
        at += 4 + length
    return ()

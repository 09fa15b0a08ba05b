"""Correct the declared length of unfinished sound files, without changing the files.

libsndfile relies on the length in the header, which is wrong in three cases:

- in a WAV file whose recorder lost power it is 0;
- an Ogg file whose recording was interrupted lacks the end-of-stream flag;
- for an MP3 file without an info frame libsndfile extrapolates the length from the first frames, and does not
  read the frames beyond it.

`inspect_header` finds such files and returns a `Patch` of their bytes, which `PatchedFile` applies while
libsndfile reads them.
"""

import io
import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

# Streaming programs write a 32-bit length of at least this for "until the end of the file".
STREAMED_LENGTH = 0x7FFF0000
MAX_CHUNKS = 10_000  # before the samples; a file with more is damaged
MAX_PAGE_BYTES = 27 + 255 + 255 * 255  # of an Ogg page: header, segment table, segments


@dataclass(frozen=True)
class ChunkLayout:
    """The layout of a container format that consists of chunks."""

    start: int  # offset of the first chunk
    header: str  # `struct` format of a chunk's header: name and length
    data: bytes  # name of the chunk with the samples
    included: int = 0  # number of header bytes that are included in the length
    align: int = 2  # chunks begin at multiples of this number of bytes


CONTAINERS = {
    b"RIFF": ChunkLayout(12, "<4sI", b"data"),
    b"RIFX": ChunkLayout(12, ">4sI", b"data"),
    b"RF64": ChunkLayout(12, "<4sI", b"data"),
    b"BW64": ChunkLayout(12, "<4sI", b"data"),
    b"FORM": ChunkLayout(12, ">4sI", b"SSND"),
    b"caff": ChunkLayout(8, ">4sq", b"data", align=1),
    b"riff": ChunkLayout(40, "<4s12xQ", b"data", included=24, align=8),  # W64
}


@dataclass(frozen=True)
class DeclaredLength:
    """The length that a file declares, compared with its content."""

    # Ratio of the declared length to the length of the content, if it is not 1: 2 for a file cut in
    # half, 0 for a file that declares no samples
    declared_ratio: float | None = None
    # Whether the file ends in the middle of a page; the number of missing samples is then unknown
    cut: bool = False
    guessed: bool = False  # whether libsndfile's length is only extrapolated


@dataclass(frozen=True)
class Patch:
    """Replacement of `removed` bytes at offset `at` by `new` bytes."""

    at: int
    removed: int
    new: bytes


class PatchedFile(io.RawIOBase):
    """A read-only file object that hides the file's name and may replace some of its bytes.

    The name is hidden because soundfile guesses the format from it. soundfile also drops exceptions of file
    objects, so the first one is kept in `error`.
    """

    def __init__(self, raw: BinaryIO, size: int, patch: Patch | None = None) -> None:
        self._raw, self._patch = raw, patch or Patch(0, 0, b"")
        self._size = size - self._patch.removed + len(self._patch.new)
        self._position = 0
        self.error: Exception | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: memoryview) -> int:
        target, count = memoryview(buffer).cast("B"), 0
        try:
            while count < len(target) and (piece := self._read_piece(len(target) - count)):
                target[count : count + len(piece)] = piece
                count += len(piece)
                self._position += len(piece)
        except Exception as error:  # a file system driver may raise any error
            self.error = self.error or error
        return count

    def _read_piece(self, length: int) -> bytes:
        """Read up to `length` bytes that are all patched or all unpatched."""
        patch, position = self._patch, self._position
        if patch.at <= position < patch.at + len(patch.new):
            return patch.new[position - patch.at :][:length]
        if position < patch.at:
            length = min(length, patch.at - position)
        else:
            position += patch.removed - len(patch.new)
        self._raw.seek(position)
        return self._raw.read(length)


def inspect_header(raw: BinaryIO, size: int) -> tuple[DeclaredLength, Patch | None]:
    """Compare the length that a file declares with its content."""
    raw.seek(0)
    head = raw.read(12)
    if head[:4] in CONTAINERS:
        return _inspect_chunks(raw, size, head[:4])
    if head[:4] in (b".snd", b"dns."):
        order = ">" if head[:4] == b".snd" else "<"
        start, length = struct.unpack(f"{order}II", head[4:]) if len(head) == 12 else (0, STREAMED_LENGTH)
        return _compare_lengths(raw, size, start, length, Patch(8, 4, b""), f"{order}I", 0)
    if head[:4] == b"OggS":
        return _inspect_ogg(raw, size)
    if head[:3] == b"ID3" or head[:1] == b"\xff":
        return _inspect_mpeg(raw, size)
    return DeclaredLength(), None


def _inspect_chunks(raw: BinaryIO, size: int, magic: bytes) -> tuple[DeclaredLength, Patch | None]:
    """Inspect a container of chunks; the length of the whole file, which is often wrong, is ignored."""
    layout = CONTAINERS[magic]
    width, position = struct.calcsize(layout.header), layout.start
    field = layout.header[0] + layout.header[-1]  # format of the length
    wide = None  # the 64-bit length and its offset, which RF64 stores in another chunk
    for _ in range(MAX_CHUNKS):
        raw.seek(position)
        header = raw.read(width)
        if len(header) < width:
            break
        name, length = struct.unpack(layout.header, header)
        start, length = position + width, length - layout.included
        if name == b"ds64" and magic in (b"RF64", b"BW64"):
            sizes = raw.read(16)
            wide = (struct.unpack("<Q", sizes[8:])[0], start + 8) if len(sizes) == 16 else None
        if name == layout.data:
            if wide is not None:
                return _compare_lengths(raw, size, start, wide[0], Patch(wide[1], 8, b""), "<Q", 0)
            patch = Patch(start - struct.calcsize(field), struct.calcsize(field), b"")
            return _compare_lengths(raw, size, start, length, patch, field, layout.included)
        if length < 0:
            break
        position = start + -(-length // layout.align) * layout.align
    return DeclaredLength(), None


def _compare_lengths(
    raw: BinaryIO, size: int, start: int, length: int, patch: Patch, field: str, included: int
) -> tuple[DeclaredLength, Patch | None]:
    """Compare the declared length of the samples, which begin at `start`, with the rest of the file."""
    available = size - start
    streamed = length < 0 or (patch.removed == 4 and length >= STREAMED_LENGTH)
    unfinished = length == 0 and not _only_chunks(raw, start, size, field)
    if available <= 0 or streamed or not (length > available or unfinished):
        return DeclaredLength(), None
    most = 2 ** (8 * patch.removed - field.islower()) - 1
    corrected = struct.pack(field, min(available + included, most))
    return DeclaredLength(declared_ratio=length / available), Patch(patch.at, patch.removed, corrected)


def _only_chunks(raw: BinaryIO, start: int, size: int, field: str) -> bool:
    """Return whether the rest of a file consists of chunks, so that it really has no samples."""
    for _ in range(MAX_CHUNKS):
        if start >= size:
            return True
        raw.seek(start)
        header = raw.read(8)
        if len(header) < 8 or not (header[:4].isascii() and header[:4].decode("ascii").isprintable()):
            return False
        start += 8 + -(-struct.unpack(f"{field[0]}I", header[4:])[0] // 2) * 2
        if start > size + 1:
            return False
    return False


def _inspect_ogg(raw: BinaryIO, size: int) -> tuple[DeclaredLength, Patch | None]:
    """Inspect an Ogg file; complete its last page with the end-of-stream flag if it lacks it."""
    first = max(0, size - 2 * MAX_PAGE_BYTES)
    raw.seek(first)
    tail = raw.read()
    end, cut = len(tail), False
    while (at := tail.rfind(b"OggS", 0, end)) >= 0:
        count = tail[at + 26] if at + 27 <= len(tail) else 255
        last = at + 27 + count + sum(tail[at + 27 : at + 27 + count])
        if at + 27 + count <= len(tail) and last <= len(tail):
            break
        end, cut = at, True
    if at < 0:
        return DeclaredLength(cut=True), None
    page = bytearray(tail[at:last])
    if not cut and page[5] & 4:
        return DeclaredLength(), None
    page[5] |= 4
    page[22:26] = bytes(4)
    page[22:26] = struct.pack("<I", _ogg_checksum(page))
    # Bytes after the last complete page cannot be decoded.
    return DeclaredLength(cut=cut), Patch(first + at, size - first - at, bytes(page))


def _ogg_checksum(page: bytes | bytearray) -> int:
    """Return the CRC-32 of an Ogg page."""
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1) ^ 0x104C11DB7 if value & 0x80000000 else value << 1
    return value


# By index: bit rates in kbit/s of MPEG layer III, versions 1 and 2; sample rates in Hz of version 1.
BITRATES = ((0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
            (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160))  # fmt: skip
RATES = (44_100, 48_000, 32_000)
MIN_FRAME_BYTES = 24


def _inspect_mpeg(raw: BinaryIO, size: int) -> tuple[DeclaredLength, Patch | None]:
    """Inspect an MP3 file; if no frame declares the length, insert an info frame before the first frame.

    The inserted frame declares more than any possible length, so that libsndfile decodes to the end.
    """
    raw.seek(0)
    at, head = 0, raw.read(10)
    while head[:3] == b"ID3" and len(head) == 10:
        at += 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
        raw.seek(at)
        head = raw.read(10)
    raw.seek(at)
    frame = raw.read(64)
    if len(frame) < 64 or frame[0] != 0xFF or frame[1] & 0xE6 != 0xE2:  # sync, and layer III
        return DeclaredLength(), None
    version, rate = frame[1] >> 3 & 3, frame[2] >> 2 & 3
    if version == 1 or rate == 3:
        return DeclaredLength(), None
    tag = max(frame.find(b"Xing"), frame.find(b"Info"))
    if frame.find(b"VBRI") >= 0 or (tag >= 0 and frame[tag + 7 : tag + 8] and frame[tag + 7] & 1):
        return DeclaredLength(), None
    mpeg1, mono = version == 3, frame[3] >> 6 == 3
    hertz = RATES[rate] // {3: 1, 2: 2, 0: 4}[version]
    length = (144_000 if mpeg1 else 72_000) * BITRATES[not mpeg1][-1] // hertz
    silent = (17 if mono else 32) if mpeg1 else (9 if mono else 17)  # bytes of side information
    header = bytes([0xFF, frame[1] | 1, 14 << 4 | rate << 2, frame[3]])
    info = header + bytes(silent) + b"Xing" + struct.pack(">II", 1, size // MIN_FRAME_BYTES + 1)
    return DeclaredLength(guessed=True), Patch(at, 0, info.ljust(length, b"\0"))

"""Requests and replies as bytes: a JSON skeleton with its arrays beside it, each as `.npy` without pickle.

The bytes that come back were written by a process that runs a student's code, so reading them trusts nothing: every
length is bounded before memory is taken, only numbers and booleans are read as arrays, and whatever does not fit raises
`WireError`.

    frame    = length of the rest (8 bytes) · length of the skeleton (8 bytes) · skeleton · arrays one after the other
    skeleton = JSON in which null, true, numbers, strings and lists stand for themselves and {"tag": …} for all else
    array    = length (8 bytes) · a `.npy` file
"""

from __future__ import annotations

import io
import json
import math
import re
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labkit.checks.answers import Fixture, Opaque, Problem, Reply, Request

__all__ = ["HEADER_BYTES", "LONGEST_INTEGER", "LONGEST_STRING", "MOST_BYTES", "MOST_DEPTH", "MOST_ENTRIES",
           "MOST_SKELETON_BYTES", "WireError", "body_length", "dumps", "loads"]

MOST_BYTES = 128_000_000       # of one frame; a check asks with pictures of a few kilobytes
MOST_SKELETON_BYTES = 16_000_000
MOST_ENTRIES = 100_000         # values in one message, containers included
MOST_DEPTH = 30
LONGEST_STRING = 20_000        # characters of what comes back; longer ones are cut
LONGEST_INTEGER = 64           # bits; arithmetic of longer ones with floats can overflow

_LENGTH = struct.Struct(">Q")
_ENVELOPE = struct.Struct(">QQ")
HEADER_BYTES = _LENGTH.size
# torch's numbers that NumPy lacks travel as integers of the same width
_RAW = {torch.bfloat16: torch.int16}
_TORCH = {str(d).removeprefix("torch."): d for d in (
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16,
    torch.float32, torch.float64, torch.complex64, torch.complex128)}
_NUMPY = {code: np.dtype(code) for code in (
    "|b1", "|u1", "<u2", "<u4", "<u8", "|i1", "<i2", "<i4", "<i8", "<f2", "<f4", "<f8", "<c8", "<c16")}
_NPY = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(rb"\{'descr': '([<|][a-z]\d{1,2})', 'fortran_order': False, "
                     rb"'shape': \((|\d{1,15},|(?:\d{1,15}, ){0,30}\d{1,15})\), \} *\n")
_TAGS = frozenset(("tuple", "dict", "array", "scalar", "tensor", "opaque", "fixture", "problem", "request", "reply"))


class WireError(ValueError):
    """The bytes are no message, or not one that may pass; the text says why."""


# --- writing --------------------------------------------------------------------------------------------------------

def dumps(message: Any) -> bytes:
    """A message as one frame.

    Parameters
    ----------
    message : plain data (see `labkit.checks.answers`), `Request`, `Reply`, `Fixture`, `Problem` or `Opaque`, nested
        as one likes. What is none of these, or too large a number, travels as an `Opaque` that names its type.

    Raises
    ------
    WireError : it is too large or too deep.
    """
    arrays: list[bytes] = []
    try:
        skeleton = json.dumps(_pack(message, arrays, 0), separators=(",", ":")).encode("ascii")
    except (ValueError, RecursionError) as error:
        raise WireError(str(error)) from error
    size = _LENGTH.size + len(skeleton) + sum(_LENGTH.size + len(a) for a in arrays)
    if len(skeleton) > MOST_SKELETON_BYTES or size > MOST_BYTES:
        raise WireError(f"it takes {size / 1e6:.0f} MB; at most {MOST_BYTES / 1e6:.0f} MB may pass")
    parts = [_ENVELOPE.pack(size, len(skeleton)), skeleton]
    for array in arrays:
        parts += [_LENGTH.pack(len(array)), array]
    return b"".join(parts)


def _pack(value: Any, arrays: list[bytes], depth: int) -> Any:
    if depth > MOST_DEPTH:
        raise WireError(f"it is nested more than {MOST_DEPTH} deep")
    deeper = depth + 1
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        bits = value.bit_length()
        return int(value) if bits < LONGEST_INTEGER else {"opaque": f"an integer of {bits} bits"}
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, list):
        return [_pack(v, arrays, deeper) for v in value]
    if isinstance(value, tuple):
        return {"tuple": [_pack(v, arrays, deeper) for v in value]}
    if isinstance(value, dict):
        return {"dict": [[_pack_key(k), _pack(v, arrays, deeper)] for k, v in value.items()]}
    if isinstance(value, Tensor):
        return _pack_tensor(value, arrays)
    if isinstance(value, (np.ndarray, np.generic)):
        if value.dtype.newbyteorder("<").str not in _NUMPY:
            return {"opaque": f"a NumPy array of dtype {value.dtype}"[:LONGEST_STRING]}
        return {"array" if isinstance(value, np.ndarray) else "scalar": _append(np.asarray(value), arrays)}
    if isinstance(value, Opaque):
        return {"opaque": str(value.description)[:LONGEST_STRING]}
    if isinstance(value, Fixture):
        return {"fixture": [value.name, _pack(value.parameters, arrays, deeper)]}
    if isinstance(value, Problem):
        kind, words, line = (str(text)[:LONGEST_STRING] for text in (value.kind, value.message, value.line))
        return {"problem": [kind, words, value.line_number, line]}
    if isinstance(value, Request):
        return {"request": [_pack(value.arguments, arrays, deeper), _pack(value.options, arrays, deeper)]}
    if isinstance(value, Reply):
        parts = (value.value, value.arguments, value.problem, value.seconds)
        return {"reply": [_pack(part, arrays, deeper) for part in parts]}
    return {"opaque": f"a value of type {type(value).__name__}"[:LONGEST_STRING]}


def _pack_key(key: Any) -> Any:
    return key if isinstance(key, (str, int, float)) else f"a key of type {type(key).__name__}"


def _pack_tensor(value: Tensor, arrays: list[bytes]) -> Any:
    try:
        plain = value.detach().as_subclass(Tensor).cpu().resolve_conj().resolve_neg().contiguous()
        name = str(plain.dtype).removeprefix("torch.")
        if name in _TORCH and plain.layout == torch.strided:
            return {"tensor": [name, _append(plain.view(_RAW.get(plain.dtype, plain.dtype)).numpy(), arrays)]}
    except (RuntimeError, TypeError, NotImplementedError):     # a sparse, quantised or data-less tensor
        pass
    return {"opaque": f"a tensor of dtype {value.dtype} and layout {value.layout}"}


def _append(array: np.ndarray, arrays: list[bytes]) -> int:
    file = io.BytesIO()
    little = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
    np.lib.format.write_array(file, little, allow_pickle=False)
    arrays.append(file.getvalue())
    return len(arrays) - 1


# --- reading --------------------------------------------------------------------------------------------------------

def body_length(header: bytes) -> int:
    """The number of bytes that follow the first `HEADER_BYTES` of a frame.

    Raises
    ------
    WireError : more than may pass.
    """
    length, = _LENGTH.unpack(header)
    if not _LENGTH.size <= length <= MOST_BYTES:
        raise WireError(f"a message of {length} bytes was announced; at most {MOST_BYTES} may pass")
    return length


def loads(body: bytes, *, longest_string: int = LONGEST_STRING) -> Any:
    """The message in a frame, given without its first `HEADER_BYTES`. Longer strings are cut.

    Raises
    ------
    WireError : the bytes are no message of this format, or exceed a bound.
    """
    view = memoryview(body)
    length, = _LENGTH.unpack(_take(view, 0, _LENGTH.size))
    start = _LENGTH.size
    if length > MOST_SKELETON_BYTES:
        raise WireError(f"a skeleton of {length} bytes was announced; at most {MOST_SKELETON_BYTES} may pass")
    try:
        skeleton = json.loads(bytes(_take(view, start, length)))
    except (ValueError, RecursionError) as error:
        raise WireError("its skeleton is not JSON") from error
    arrays = list(_arrays(view, start + length))
    try:
        return _Unpacker(arrays, longest_string).unpack(skeleton, 0)
    except (TypeError, KeyError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise WireError(f"its skeleton is not one of ours: {error}") from error


def _take(view: memoryview, start: int, length: int) -> memoryview:
    if start + length > len(view):
        raise WireError("it ends too early")
    return view[start:start + length]


def _arrays(view: memoryview, start: int) -> Iterator[np.ndarray]:
    while start < len(view):
        length, = _LENGTH.unpack(_take(view, start, _LENGTH.size))
        start += _LENGTH.size
        yield _read_array(_take(view, start, length))
        start += length


def _read_array(view: memoryview) -> np.ndarray:
    """A `.npy` file as an array of its own memory.

    Only what `_append` writes is read. NumPy's own reader evaluates the header as Python and allocates what it claims.
    """
    start = len(_NPY) + 2
    start += int.from_bytes(_take(view, len(_NPY), 2), "little")
    header = _HEADER.fullmatch(bytes(view[len(_NPY) + 2:start]))
    if bytes(view[:len(_NPY)]) != _NPY or header is None or header[1].decode() not in _NUMPY:
        raise WireError("an array is not one of plain numbers")
    dtype, shape = _NUMPY[header[1].decode()], tuple(int(side) for side in header[2].replace(b",", b" ").split())
    data = view[start:]
    if math.prod(shape) * dtype.itemsize != len(data):
        raise WireError("an array's header does not fit its length")
    try:
        return np.frombuffer(data, dtype=dtype).reshape(shape).astype(dtype.newbyteorder("="))
    except ValueError as error:      # an empty array with a side too long to be one
        raise WireError(f"an array cannot be made: {error}") from error


class _Unpacker:
    """Turns one skeleton back into the message, counting what it makes."""

    def __init__(self, arrays: list[np.ndarray], longest_string: int):
        self.arrays, self.longest_string, self.entries = arrays, longest_string, 0

    def unpack(self, value: Any, depth: int) -> Any:
        self.entries += 1
        if depth > MOST_DEPTH or self.entries > MOST_ENTRIES:
            raise WireError("it holds too many values, or they are nested too deep")
        if value is None or isinstance(value, (bool, float)):
            return value
        if isinstance(value, int):
            if value.bit_length() >= LONGEST_INTEGER:
                raise WireError(f"it holds an integer of {value.bit_length()} bits")
            return value
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, list):
            return [self.unpack(v, depth + 1) for v in value]
        (tag, content), = value.items()
        if tag not in _TAGS:
            raise WireError("it holds a tag that means nothing")
        return getattr(self, f"_{tag}")(content, depth + 1)

    def _tuple(self, content: list, depth: int) -> tuple:
        return tuple(self.unpack(v, depth) for v in content)

    def _dict(self, content: list, depth: int) -> dict:
        return {self._key(k): self.unpack(v, depth) for k, v in content}

    def _array(self, content: int, depth: int) -> np.ndarray:
        return self.arrays[int(content)]

    def _scalar(self, content: int, depth: int) -> np.generic:
        return self.arrays[int(content)].reshape(())[()]

    def _tensor(self, content: list, depth: int) -> Tensor:
        name, index = content
        dtype, array = _TORCH[name], torch.from_numpy(self.arrays[int(index)])
        if array.dtype != _RAW.get(dtype, dtype):
            raise WireError(f"a tensor of {name} came as {array.dtype}")
        return array.view(dtype)

    def _opaque(self, content: str, depth: int) -> Opaque:
        return Opaque(self._text(content))

    def _fixture(self, content: list, depth: int) -> Fixture:
        name, parameters = content
        return Fixture(self._text(name), self._expect(parameters, depth, dict))

    def _problem(self, content: list, depth: int) -> Problem:
        kind, message, number, line = content
        return Problem(self._text(kind), self._text(message), None if number is None else int(number), self._text(line))

    def _request(self, content: list, depth: int) -> Request:
        arguments, options = content
        return Request(self._expect(arguments, depth, tuple), self._expect(options, depth, dict))

    def _reply(self, content: list, depth: int) -> Reply:
        value, arguments, problem, seconds = content
        problem = self.unpack(problem, depth)
        if problem is not None and not isinstance(problem, Problem):
            raise WireError("a reply's problem is none")
        return Reply(self.unpack(value, depth), self._expect(arguments, depth, tuple), problem, float(seconds))

    def _expect(self, content: Any, depth: int, kind: type) -> Any:
        value = self.unpack(content, depth)
        if not isinstance(value, kind):
            raise WireError(f"a {kind.__name__} was expected")
        return value

    def _key(self, key: Any) -> Any:
        if not isinstance(key, (str, int, float)):
            raise WireError("a dictionary has a key that is neither a word nor a number")
        return self._text(key) if isinstance(key, str) else key

    def _text(self, value: Any) -> str:
        """A string that any file can hold: half a surrogate pair, which JSON lets pass, cannot be written as UTF-8."""
        if not isinstance(value, str):
            raise WireError("a text was expected")
        return value[:self.longest_string].encode("utf-8", "replace").decode("utf-8")

"""Requests of the Open Inference Protocol, and their tensors, in JSON or in binary."""

import math
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from iris_api.protocols.problems import InvalidRequestError, Problem, explain

EXACT = 2**53
"""The integer up to which float64 represents each integer exactly."""

NUMBERS = {
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    "BOOL": np.dtype("?"),
}
"""numpy's type of each datatype except BYTES, which is text here."""

Data = NDArray[Any] | list[str | None]
"""The flat data of a tensor, numbers or texts."""


class Parameters(msgspec.Struct):
    """The supported parameters of a request, a tensor or an output."""

    binary_data_size: int | None = None
    binary_data: bool | None = None
    binary_data_output: bool = False


class Tensor(msgspec.Struct):
    """One tensor of a request; its data is in JSON, or in the binary part of the body."""

    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters | None = None
    data: msgspec.Raw = msgspec.Raw()


class Output(msgspec.Struct):
    """An output that a request wants."""

    name: str
    parameters: Parameters | None = None


class Request(msgspec.Struct):
    """The JSON of a request."""

    inputs: list[Tensor]
    id: str | None = None
    parameters: Parameters | None = None
    outputs: list[Output] | None = None


def count_keys(request: Request) -> int:
    """Return how many keys a request needs for what it has."""
    keys = 1 + (request.id is not None) + (request.outputs is not None)
    for each in (request, *request.inputs, *(request.outputs or ())):
        if (parameters := each.parameters) is not None:
            sizes = parameters.binary_data_size is not None, parameters.binary_data is not None
            keys += 1 + sum(sizes) + parameters.binary_data_output
    has_data = sum(memoryview(tensor.data).nbytes > 0 for tensor in request.inputs)
    return keys + 3 * len(request.inputs) + has_data + len(request.outputs or ())


decode_request = msgspec.json.Decoder(Request).decode
"""Decode the JSON of a request; of two equal keys the last one counts."""


def _decoders(cell: Any) -> tuple[Callable[[bytes], Any], Callable[[bytes], Any]]:
    """Return the decoders of flat and of nested data."""
    flat = msgspec.json.Decoder(list[cell])
    return flat.decode, msgspec.json.Decoder(list[list[cell]]).decode


_DATA = {
    "FP": _decoders(float | None),
    "IN": _decoders(int),
    "UI": _decoders(int),
    "BO": _decoders(bool),
    "BY": _decoders(str | None),
}
"""The decoders of JSON, by the first letters of a datatype."""


class TensorReader:
    """Reads the data of tensors, of which the binary ones follow each other."""

    def __init__(self, binary: memoryview | bytes) -> None:
        self._binary = binary
        self._read = 0

    def read(self, tensor: Tensor, place: int) -> Data:
        """Return the flat data of a tensor, an array of numbers or a list of texts."""
        count = math.prod(tensor.shape)
        size = tensor.parameters.binary_data_size if tensor.parameters else None
        wrong = _wrong_data(place)
        if size is None:
            return _from_json(tensor, count, wrong)
        if bytes(tensor.data):
            raise wrong("stands beside binary_data_size; send one of them")
        begin, self._read = self._read, self._read + size
        if size < 0 or self._read > len(self._binary):
            raise wrong(f"must have {size} bytes, and the body ends before")
        return _from_binary(tensor, self._binary[begin : self._read], count, wrong)

    def check_end(self) -> None:
        """Reject bytes after the last tensor."""
        if left := len(self._binary) - self._read:
            raise InvalidRequestError(f"the body has {left} bytes more than its tensors")


def _wrong_data(place: int) -> Callable[[str], InvalidRequestError]:
    return lambda text: explain([Problem(["inputs", place, "data"], text)])


def _from_json(tensor: Tensor, count: int, wrong: Callable[[str], InvalidRequestError]) -> Data:
    data, datatype = bytes(tensor.data), tensor.datatype
    if not data:
        raise wrong("is missing")
    # Each value but the first follows a comma, however they are nested. Texts may have more.
    if datatype != "BYTES" and data.count(b",") != count - 1:
        raise wrong(f"must have {count} values, by the shape")
    flat, nested = _DATA[datatype[:2]]
    try:
        try:
            found: Any = flat(data)
        except msgspec.ValidationError:
            if data.count(b"[") < 2:
                raise
            found = [cell for row in nested(data) for cell in row]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise wrong(f"is not valid for {datatype}: {error}") from None
    if len(found) != count:
        raise wrong(f"must have {count} values, by the shape")
    if datatype == "BYTES":
        texts: list[str | None] = found
        return texts
    # A number keeps its double value also where the datatype is FP32 or FP16.
    kind = np.dtype(np.float64) if datatype.startswith("FP") else NUMBERS[datatype]
    try:
        return np.array(found, dtype=kind)
    except OverflowError:
        raise wrong(f"must have numbers that {datatype} holds") from None


def _from_binary(
    tensor: Tensor,
    data: memoryview | bytes,
    count: int,
    wrong: Callable[[str], InvalidRequestError],
) -> Data:
    if tensor.datatype == "BYTES":
        return _unpack(data, count, wrong)
    kind = NUMBERS[tensor.datatype]
    if len(data) != count * kind.itemsize:
        raise wrong(f"must have {count * kind.itemsize} bytes, by the shape and the datatype")
    if tensor.datatype == "BOOL":
        found = np.frombuffer(data, np.uint8)
        if found.max(initial=0) > 1:
            raise wrong("must have bytes of 0 or 1")
        return found.astype(np.bool_)
    return np.frombuffer(data, kind)


def _unpack(
    data: memoryview | bytes, count: int, wrong: Callable[[str], InvalidRequestError]
) -> list[str | None]:
    """Return texts, each of which follows its length in four bytes."""
    texts: list[str | None] = []
    place = 0
    while place < len(data) and len(texts) < count:
        begin = place + 4
        place = begin + int.from_bytes(data[place:begin], "little")
        if place > len(data):
            break
        try:
            texts.append(str(data[begin:place], "utf-8"))
        except UnicodeDecodeError:
            raise wrong("must have texts in UTF-8") from None
    if place != len(data) or len(texts) != count:
        raise wrong(f"must have {count} texts, each after its length in 4 bytes")
    return texts


def to_float(numbers: NDArray[Any], place: int) -> NDArray[np.float64]:
    """Return numbers as float64, unless some integers would change."""
    if numbers.dtype.kind in "iu" and numbers.dtype.itemsize == 8:
        beyond = (numbers > EXACT) | (numbers < -EXACT if numbers.dtype.kind == "i" else False)
        if beyond.any():
            raise _wrong_data(place)("must have integers of -2^53 to 2^53, which FP64 holds")
    return numbers.astype(np.float64)  # a copy, because the body is not aligned

"""A segment: the records that one log got in one transaction, as one row's blob.

Little-endian 32-bit lengths, one a record, then the values, one after another. Both ways the work
for each record is done in C: a loop here would cost more than all the rest of a publish.
"""

import struct
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import accumulate, pairwise, repeat, starmap

from gateway.ports import Record

PARTITION = 0
"""The only one."""

_make_record = partial(tuple.__new__, Record)


def pack(values: Sequence[bytes]) -> bytes:
    """Return the blob."""
    return struct.pack(f"<{len(values)}I", *map(len, values)) + b"".join(values)


def unpack(count: int, blob: bytes) -> list[bytes]:
    """Return the values. Raises ValueError when the blob is not what `pack` wrote."""
    try:
        lengths = struct.unpack_from(f"<{count}I", blob)
    except struct.error as error:
        raise ValueError(f"a segment of {count} records is cut short") from error
    bounds = list(accumulate(lengths, initial=4 * count))
    if bounds[-1] != len(blob):
        raise ValueError(f"a segment of {count} records has {len(blob)} bytes, not {bounds[-1]}")
    return list(map(blob.__getitem__, starmap(slice, pairwise(bounds))))


def records(first: int, time_ms: int, values: Sequence[bytes]) -> Iterable[Record]:
    """Return the records of a stretch of one segment."""
    columns = zip(
        repeat(PARTITION),
        range(first, first + len(values)),
        repeat(time_ms),
        values,
        repeat(b""),
        strict=False,
    )
    return map(_make_record, columns)

"""A TIFF whose chain of directories is a circle."""

import io

import numpy as np
import tifffile


def endless_tiff(image: np.ndarray) -> bytes:
    """A pyramid of two levels of this picture, ``uint8 (height, width, 3)``; after the second comes the first again."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for step in (1, 2):
            writer.write(image[::step, ::step], tile=(64, 64), photometric="rgb", metadata=None)
    buffer.seek(0)
    with tifffile.TiffFile(buffer) as file:
        first, second = file.pages
        next_place = second.offset + 2 + 12 * len(second.tags)
        data = bytearray(buffer.getvalue())
        data[next_place : next_place + 4] = first.offset.to_bytes(4, "little")
    return bytes(data)

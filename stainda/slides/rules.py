"""Accepted pixel formats: one 8-bit RGB image; the same rules for every reader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from stainda.errors import SlideError

Colour = Literal["rgb", "grey", "black and white", "palette", "cmyk", "other"]
Alpha = Literal["none", "straight", "premultiplied", "unknown"]

RGB_ONLY = "stainda needs one 8-bit RGB picture of a stained section; export it as such"
_PRIMARIES = (("r", "red"), ("g", "green"), ("b", "blue"))
_NAMED = {
    "grey": "greyscale",
    "black and white": "black and white, one bit",
    "palette": "a colour table (palette)",
    "cmyk": "CMYK (print colours)",
}


@dataclass(frozen=True)
class Channel:
    """A plane that is stored apart: its name and its colour (red, green, blue), as far as the file tells them."""

    name: str = ""
    colour: tuple[int, int, int] | None = None
    fluorescent: bool = False


@dataclass(frozen=True)
class Pixels:
    """How the main picture of a file is stored, in no library's words.

    Attributes:
        bits: bits per sample as stored, before any library scales them.
        type: the name of the sample's type where it is not an unsigned integer of ``bits`` (``float32``), else empty.
        colour: what the samples of a pixel mean; ``other`` is reported in ``colour_name``.
        samples: samples per pixel, alpha included; 3 where three channels are joined to one picture.
        alpha: what a fourth sample is.
        channels: planes stored apart that are not samples of one pixel; empty where there are none.
        stack: (number, what) of pictures that lie over each other: focal planes, time points, pages.
        twins: further pictures of the very same size that are not levels of the first.
    """

    bits: int
    colour: Colour
    samples: int
    type: str = ""
    colour_name: str = ""
    alpha: Alpha = "none"
    channels: tuple[Channel, ...] = ()
    stack: tuple[tuple[int, str], ...] = ()
    twins: int = 0


def refuse_unless_rgb(pixels: Pixels) -> None:
    """Pass what is one 8-bit RGB picture, perhaps with alpha.

    Raises:
        SlideError: it is anything else. Nothing is converted: a palette or greyscale picture is often a mask, more
            bits would have to be scaled, and channels would have to be given colours.
    """
    for fault in (_stack_fault, _channel_fault, _bits_fault, _colour_fault):
        problem = fault(pixels)
        if problem:
            raise SlideError(problem[0], remedy=problem[1])


def joins_to_rgb(channels: Sequence[Channel]) -> bool:
    """Whether three planes stored apart are the red, green and blue of one picture: by their names, else colours."""
    if len(channels) != 3 or any(channel.fluorescent for channel in channels):
        return False
    names = [channel.name.strip().casefold() for channel in channels]
    if any(names):
        return all(name in wanted for name, wanted in zip(names, _PRIMARIES, strict=True))
    return [channel.colour for channel in channels] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def _stack_fault(pixels: Pixels) -> tuple[str, str] | None:
    if pixels.stack:
        listed = ", ".join(f"{number} {what}" for number, what in pixels.stack)
        return f"not one picture but a stack of {listed}", RGB_ONLY
    if pixels.twins:
        return f"holds {pixels.twins + 1} pictures of the same size", "Save the one that is meant on its own"
    return None


def _channel_fault(pixels: Pixels) -> tuple[str, str] | None:
    number = len(pixels.channels)
    if number < 2 or joins_to_rgb(pixels.channels):
        return None
    if number == 3 and pixels.bits == 8 and not any(c.name or c.colour or c.fluorescent for c in pixels.channels):
        return (
            "3 separate channels without names: the file does not tell whether they are red, green and blue",
            f"If they are, name them Red, Green, Blue, or export with the three in each pixel; {RGB_ONLY}",
        )
    names = [channel.name for channel in pixels.channels if channel.name]
    listed = f": {', '.join(names[:6])}" if names else ""
    return f"{number} separate channels (fluorescence or multispectral), not RGB{listed}", RGB_ONLY


def _bits_fault(pixels: Pixels) -> tuple[str, str] | None:
    if pixels.type:
        return f"pixels of type {pixels.type}, not 8-bit RGB", RGB_ONLY
    if pixels.bits != 8 and pixels.colour != "black and white":
        return f"{pixels.bits} bits per sample, uint{16 if pixels.bits > 8 else 8}, not 8-bit RGB", RGB_ONLY
    return None


def _colour_fault(pixels: Pixels) -> tuple[str, str] | None:
    if pixels.colour != "rgb":
        return f"not RGB but {_NAMED.get(pixels.colour, pixels.colour_name)}", RGB_ONLY
    if pixels.samples not in (3, 4):
        return f"{pixels.samples} samples per pixel, not RGB", RGB_ONLY
    if pixels.alpha == "unknown":
        return "a fourth sample that is not said to be transparency", RGB_ONLY
    return None

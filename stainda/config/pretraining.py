"""What is known of the weights that an encoder was trained to before: the facts of its publisher."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from stainda.config.frozen import Frozen

_Share = Annotated[float, Field(gt=0, le=1)]
Colour = tuple[_Share, _Share, _Share]


class PretrainingConfig(Frozen):
    """Facts about published encoder weights; none of them changes the network.

    ``mean`` and ``std`` are what a network that starts from the weights is standardised by
    (``training.standardise: encoder``). What no source gives is left out, and ``unknown`` says so.
    """

    title: str = Field("", description="name in the publisher's spelling")
    mean: Colour = Field(description="of red, green and blue in 0..1, that images were standardised by")
    std: Colour = Field(description="of red, green and blue in 0..1, that images were standardised by")
    input_size: int | None = Field(None, ge=1, description="pixels at each side of the images it was trained on")
    mpp: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (), description="micrometres per pixel of the patches it was trained on; empty: no source gives it"
    )
    licence: str = Field("", description="of the weights, as their publisher states it")
    access: str = Field("", description="how a person comes by the file")
    command: str = Field("", description="what fetches the file on a machine with internet")
    parameters: float | None = Field(None, gt=0, description="millions, without a classifier, as published")
    sha256: str = Field("", description="of the file under the name that the model looks for")
    sources: tuple[str, ...] = Field((), description="where these facts are from")
    unknown: str = Field("", description="what no source gives, or where sources differ")

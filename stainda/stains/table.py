"""Table of kidney stains: colour of each dye, and its uptake by each structure.

A dye is a unit vector of optical density, ``-log10(I / I0)`` per red, green, blue (Ruifrok & Johnston 2001). The
vectors were fitted to real scans of human kidney, one per stain, and of rat kidney (pan-cytokeratin): the extreme
angles of the tissue's optical densities in their principal plane (Macenko et al. 2009), with a third dye read off the
structure that holds it alone. ``benchmarks/phantom_beside_real.py`` repeats the fit and shows rendered and real
fields side by side.

The table of affinities is read row by row: a structure, then for each stain how much of each of its dyes the structure
holds. An amount of 1 along a unit vector takes 90 % of the light where the vector is 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stainda.arrays import Array
from stainda.errors import ConfigError, did_you_mean

DYES: Mapping[str, tuple[float, float, float]] = {
    # name                red   green blue   where it was read
    "haematoxylin_pas": (0.720, 0.620, 0.310),  # nuclei of the PAS patch
    "schiff": (0.420, 0.860, 0.290),  # tubular basement membranes of the PAS patch
    "haematoxylin_he": (0.620, 0.710, 0.340),  # nuclei of the H&E patch
    "eosin": (0.180, 0.912, 0.369),  # tubular cytoplasm of the H&E patch
    "silver": (0.520, 0.630, 0.577),  # glomerular tuft and membranes of the Jones patch
    "haematoxylin_jones": (0.660, 0.690, 0.300),  # nuclei of the Jones patch
    "eosin_jones": (0.390, 0.840, 0.370),  # tubular cytoplasm of the Jones patch
    "sirius_red": (0.130, 0.775, 0.618),  # interstitial collagen of the Sirius red patch
    "picric_acid": (0.150, 0.470, 0.870),  # tubular cytoplasm of the Sirius red patch
    "haematoxylin_sr": (0.520, 0.580, 0.627),  # nuclei of the Sirius red patch (Weigert: brown-black)
    "haematoxylin_ihc": (0.725, 0.590, 0.355),  # nuclei of the CD68 patch
    "dab": (0.260, 0.530, 0.807),  # macrophages of the CD68 patch, tubules of the pan-cytokeratin-like patches
    "haematoxylin_red": (0.700, 0.575, 0.424),  # nuclei of the CD34 patch
    "permanent_red": (0.160, 0.745, 0.648),  # capillaries of the CD34 patch
}

# What a structure holds of the dyes of each stain, in the order of the second line.
AFFINITY_TABLE = """
structure        | PAS         | HE          | JONES          | SR             | CD68        | CD34        | PANCK
                 | haem schiff | haem eosin  | silver eos haem| red picric haem| haem dab    | haem red    | haem dab
glass            |  0    0     |  0    0     |  0    0    0   |  0    0    0   |  0    0     |  0    0     |  0    0
lumen            |  .01  .02   |  .01  .02   |  .00  .02  .01 |  .01  .03  .00 |  .01  .01   |  .02  .01   |  .02  .00
debris           |  .07  .12   |  .02  .20   |  .01  .18  .05 |  .03  .16  .02 |  .05  .06   |  .09  .02   |  .06  .02
interstitium     |  .10  .20   |  .06  .26   |  .40  .16  .10 |  .34  .12  .01 |  .07  .01   |  .13  .06   |  .08  .01
fibrosis         |  .08  .34   |  .04  .42   |  .75  .20  .08 |  .62  .14  .00 |  .06  .02   |  .12  .02   |  .07  .01
capillary_wall   |  .12  .28   |  .10  .30   |  .45  .18  .12 |  .36  .10  .02 |  .10  .02   |  .10 1.00   |  .10  .01
capillary_lumen  |  .02  .03   |  .01  .05   |  .01  .03  .01 |  .02  .04  .00 |  .02  .01   |  .02  .03   |  .02  .00
tubule_membrane  |  .14  .62   |  .07  .38   | 1.60  .10  .10 |  .50  .10  .00 |  .07  .01   |  .13  .04   |  .08  .01
proximal         |  .13  .21   |  .07  .42   |  .05  .36  .06 |  .03  .21  .01 |  .07  .09   |  .22  .01   |  .12  .02
brush_border     |  .08  .40   |  .05  .46   |  .10  .40  .05 |  .04  .24  .01 |  .05  .12   |  .19  .01   |  .10  .03
distal           |  .15  .12   |  .09  .27   |  .05  .24  .08 |  .03  .14  .02 |  .08  .03   |  .19  .01   |  .10  .42
collecting_duct  |  .14  .10   |  .09  .22   |  .05  .22  .08 |  .03  .12  .02 |  .09  .01   |  .18  .01   |  .08 1.05
cast             |  .08  .66   |  .03  .56   |  .10  .52  .04 |  .05  .46  .00 |  .03  .16   |  .10  .02   |  .05  .05
bowman_membrane  |  .12  .68   |  .06  .38   | 1.70  .10  .08 |  .66  .10  .00 |  .08  .01   |  .13  .03   |  .10  .14
bowman_space     |  .01  .02   |  .00  .02   |  .00  .02  .01 |  .01  .03  .00 |  .01  .01   |  .02  .01   |  .01  .00
podocyte         |  .13  .14   |  .09  .20   |  .10  .20  .12 |  .10  .12  .03 |  .12  .02   |  .16  .04   |  .11  .01
mesangium        |  .14  .44   |  .12  .32   |   .95  .18  .14 |  .24  .12  .04 |  .12  .02   |  .16  .08   |  .12  .01
tuft_wall        |  .12  .54   |  .08  .26   | 1.25  .12  .10 |  .34  .06  .02 |  .08  .01   |  .14  .85   |  .08  .01
tuft_lumen       |  .02  .04   |  .01  .05   |  .02  .04  .02 |  .03  .05  .00 |  .02  .01   |  .03  .04   |  .02  .00
sclerosis        |  .08  .62   |  .04  .46   |  1.20  .22  .06 |  .52  .16  .00 |  .07  .03   |  .13  .05   |  .07  .01
muscle           |  .13  .26   |  .09  .50   |  .30  .40  .14 |  .16  .26  .02 |  .09  .03   |  .18  .02   |  .09  .01
endothelium      |  .16  .34   |  .14  .30   |  .60  .20  .14 |  .30  .12  .03 |  .12  .02   |  .12 1.05   |  .11  .01
red_cell         |  .05  .22   |  .01  .62   |  .04  .50  .02 |  .02  .62  .01 |  .03  .16   |  .12  .05   |  .04  .06
macrophage       |  .12  .22   |  .10  .24   |  .12  .24  .12 |  .06  .18  .02 |  .08 1.05   |  .14  .02   |  .10  .01
lymphoid_stroma  |  .14  .10   |  .12  .12   |  .16  .16  .14 |  .14  .10  .04 |  .14  .01   |  .16  .04   |  .13  .01
nucleus_tubule   |  .46  .18   |  .42  .26   |  .08  .30  .55 |  .05  .14  .22 |  .27  .02   |  .34  .01   |  .24  .02
nucleus_stroma   |  .62  .20   |  .55  .26   |  .15  .26  .66 |  .12  .12  .38 |  .32  .02   |  .40  .03   |  .30  .02
nucleus_tuft     |  .56  .22   |  .50  .24   |  .20  .24  .60 |  .08  .12  .36 |  .32  .01   |  .40  .04   |  .30  .02
nucleus_lymphoid |  .74  .20   |  .72  .26   |  .10  .24  .80 |  .05  .12  .46 |  .44  .01   |  .52  .02   |  .42  .02
positive_membrane|  .14  .62   |  .07  .38   | 1.60  .10  .10 |  .50  .10  .00 |  .07  .01   |  .13  .04   |  .08  .01
"""


@dataclass(frozen=True)
class Stain:
    """One stain.

    ``vectors`` is (dyes, 3), unit optical density per dye; ``affinity`` maps a structure to its amounts, one per dye.
    """

    name: str
    title: str
    dyes: tuple[str, ...]
    aliases: tuple[str, ...]
    affinity: Mapping[str, tuple[float, ...]]

    @property
    def vectors(self) -> Array:
        rows = np.array([DYES[dye] for dye in self.dyes], dtype=np.float64)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def amounts(self) -> Array:
        """Amounts (structures, dyes), rows in the order of :data:`STRUCTURES`."""
        return np.array([self.affinity[structure] for structure in STRUCTURES], dtype=np.float64)


_KNOWN: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("PAS", "periodic acid-Schiff", ("haematoxylin_pas", "schiff"), ("PERIODIC ACID-SCHIFF",)),
    ("HE", "haematoxylin and eosin", ("haematoxylin_he", "eosin"), ("H&E", "H+E")),
    (
        "JONES",
        "Jones silver with H&E",
        ("silver", "eosin_jones", "haematoxylin_jones"),
        ("JONES H&E", "PASM", "SILVER"),
    ),
    ("SR", "Sirius red", ("sirius_red", "picric_acid", "haematoxylin_sr"), ("SIRIUS RED", "SIRIUSRED", "PSR")),
    ("CD68", "CD68, brown chromogen", ("haematoxylin_ihc", "dab"), ()),
    ("CD34", "CD34, red chromogen", ("haematoxylin_red", "permanent_red"), ()),
    (
        "PANCK",
        "pan-cytokeratin, brown chromogen",
        ("haematoxylin_ihc", "dab"),
        ("PAN-CYTOKERATIN", "PANCYTOKERATIN", "CK"),
    ),
    ("PDL1", "PD-L1, brown chromogen", ("haematoxylin_ihc", "dab"), ("PD-L1",)),
)


def _read_table(text: str) -> tuple[tuple[str, ...], dict[str, dict[str, tuple[float, ...]]]]:
    """Structures in order, and for each stain the amounts by structure."""
    header, _, *rows = [line.split("|") for line in text.strip().splitlines()]
    stains = [cell.strip() for cell in header[1:]]
    structures = tuple(row[0].strip() for row in rows)
    columns: dict[str, dict[str, tuple[float, ...]]] = {stain: {} for stain in stains}
    for row in rows:
        for name, cell in zip(stains, row[1:], strict=True):
            columns[name][row[0].strip()] = tuple(float(number) for number in cell.split())
    return structures, columns


STRUCTURES, _AMOUNTS = _read_table(AFFINITY_TABLE)
_AMOUNTS["PDL1"] = {
    **_AMOUNTS["CD68"],
    "macrophage": (0.08, 0.42), "positive_membrane": (0.08, 1.20),
}  # fmt: skip
"""As CD68, another antibody with the same chromogen; what it marks was not read off a scan: there is none here."""
STAINS: Mapping[str, Stain] = {
    name: Stain(name, title, dyes, aliases, _AMOUNTS[name]) for name, title, dyes, aliases in _KNOWN
}


def stain(name: str) -> Stain:
    """The stain of that name or alias, in any case.

    Raises:
        ConfigError: no such stain; the message names the nearest one.
    """
    wanted = name.strip().upper()
    for entry in STAINS.values():
        if wanted in (entry.name, *entry.aliases):
            return entry
    raise ConfigError(f"unknown stain {name!r}", remedy=did_you_mean(wanted, STAINS))

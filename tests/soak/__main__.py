"""`python -m tests.soak`: all of them, one after the other; exit code 1 if one has failed."""

from __future__ import annotations

from .cleanups import cleanups
from .cluster import cluster
from .drained import drained, stubborn
from .floods import floods, over_picows
from .frozen import frozen
from .herd import herd
from .killed import gone, killed
from .moved import moved
from .storm import storm
from .support import main

if __name__ == "__main__":
    main(
        storm,
        killed,
        gone,
        frozen,
        drained,
        stubborn,
        herd,
        cleanups,
        floods,
        over_picows,
        cluster,
        moved,
    )

"""Fifty viewers of the same prices, one of them slow and one of them late.

`python -m examples.dashboard` serves a page with charts (uPlot, which is in `www/vendor`), and
`python -m examples.dashboard.viewers` shows fifty viewers in a terminal::

    quick  ▂▂▃▃▄▅▅▆▅▅▄▄▃▃▄▄▅▆▇▇█▇▇▆▅▅▄▃▃▂▂▁▁▁▂▂▃▄▄▅   ACME 104.20   200 prices in 200 items
    slow   ▂▂▃▃▄▅▅▆▅▅▄▄▃▃▄▄▅▆▇▇█▇▇▆▅▅▄▃▃▂▂▁▁▁▂▂▃▄▄▅   ACME 104.20   200 prices in 11 items
    late   ▂▂▃▃▄▅▅▆▅▅▄▄▃▃▄▄▅▆▇▇█▇▇▆▅▅▄▃▃▂▂▁▁▁▂▂▃▄▄▅   ACME 104.20   200 prices in 101 items

The market keeps its last prices once, for all. Of each viewer it knows a number only: how far that
one is. An item has all prices since then, so a slow viewer takes fewer items and has the same chart,
and a late one begins with all there is. Credit (`window=1`) sees to it that hardly anything waits for a
viewer that is not ready.
"""

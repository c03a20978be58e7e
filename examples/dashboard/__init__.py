"""Fifty viewers of the same prices, one of them slow and one of them late.

`python -m examples.dashboard` serves a page with charts (uPlot, which is in `www/vendor`), and
`python -m examples.dashboard.viewers` shows fifty viewers in a terminal::

    quick  ▂▂▃▃▄▅▅▆▅▅▄▄▃▃▄▄▅▆▇▇█▇▇▆▅▅▄▃▃▂▂▁▁▁▂▂▃▄▄▅   ACME 104.20   200 prices in 200 items
    slow   ▂▂▃▃▄▅▅▆▅▅▄▄▃▃▄▄▅▆▇▇█▇▇▆▅▅▄▃▃▂▂▁▁▁▂▂▃▄▄▅   ACME 104.20   200 prices in 11 items
    late   ▂▂▃▃▄▅▅▆▅▅▄▄▃▃▄▄▅▆▇▇█▇▇▆▅▅▄▃▃▂▂▁▁▁▂▂▃▄▄▅   ACME 104.20   200 prices in 101 items

The market keeps its last prices once, for all. Of each viewer it knows only the number of the last
price that the viewer has. An item has all prices since then, so a slow viewer takes fewer items and
has the same chart, and a late one begins with all prices that are kept. With a credit of one item
(`window=1`) hardly any item waits for a viewer that is not ready.
"""

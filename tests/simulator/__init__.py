"""Two endpoints and a hostile link, driven by one seed: no event loop, no real time.

`world` has the clock and the links, `party` the two ends with what an application might do there.
What may never happen is asserted where it would happen. A seed replays exactly, so a failing one is
run again with a transcript.
"""

"""Programs to read and run; one idea a file: `python examples/hello.py`."""

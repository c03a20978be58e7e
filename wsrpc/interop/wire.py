from .case import Cases
wire_cases = Cases()

"""How batches travel: a three-method contract and its adapters."""

"""Self-contained pages: blocks, curves, tables and pictures; they know nothing of runs."""

"""Comparison of lamina with other array libraries: ``python -m bench.compare --help``."""

"""cvx: a command-line toolchain with a complete reactive backend inside it."""

__version__ = "0.1.0"

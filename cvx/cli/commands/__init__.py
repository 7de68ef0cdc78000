"""One file a noun: parse, call one thing in the toolchain, render the answer."""

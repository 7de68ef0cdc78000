"""Hypothesis strategies for values, weighted towards what breaks encodings: NULs, signs, prefixes, extremes."""

from __future__ import annotations

from hypothesis import strategies as st

from cvx.values import UNDEFINED

_edge_floats = [0.0, -0.0, float("inf"), float("-inf"), float("nan"), -float("nan"), 5e-324, 1e21, 1e-7, 1.0]
_texts = st.text(
    alphabet=st.one_of(st.sampled_from("\x00\x01\x02aé\uffff😀"), st.characters(codec="utf-8")), max_size=6
)
_names = st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=4).filter(
    lambda name: not name.startswith("$")
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.integers(-2, 2),
    st.floats(),
    st.sampled_from(_edge_floats),
    _texts,
    st.binary(max_size=4),
    st.lists(st.sampled_from(b"\x00\x01\x02\xff"), max_size=4).map(bytes),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=3),
    max_leaves=8,
)
keys = st.lists(st.one_of(values, st.just(UNDEFINED)), max_size=3)

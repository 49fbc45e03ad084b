"""One prepared run on a machine with an NVIDIA card: `python -m tests.gpu`, or `make gpu`.

It needs nothing installed but torch, numba and numba-cuda, and runs straight from the checkout. What else is missing is
left out, with a sentence. A chapter adds itself with a file here that bears its topic, such as `filtering.py`, with a
function `cases(small)` that gives its `Case`s.

In this order: the card's limits, measured on it; the tests marked `cuda`; then, chapter by chapter, each case's result
beside the CPU's, its times, and what the compiler made of the kernels. Every part is a process of its own: a fault on the
card takes the rest of a process along, and the next case starts in a new one.
"""

"""On a GPU: whether its tests pass, and whether a dump and stored labels keep it as busy as the bare model does.

`python -m tests.benchmarks.gpu` does all of it in one call; `make bench` measures the same where there is a GPU.
"""

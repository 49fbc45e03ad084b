"""A class of submissions to marks: every submission runs shut away, every check runs outside it.

`isolation.Sandbox` runs the cells of one submission and answers requests; `wire` carries requests and replies; `worker`
is what runs inside; `withhold` makes the copy of labkit that a student's code finds there.
"""

__all__: list[str] = []

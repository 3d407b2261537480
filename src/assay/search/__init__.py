"""The search for the best configuration: what to try next, and when to stop trying.

Nothing here opens, times or compares anything: ``search`` is handed a ``trial`` that gives Records for a
point and an effort, and a clock that says how much time is left.  See docs/tune.md.
"""

"""Which stage, which operator, which line: blame for outputs that differ.

``stages`` walks from the reference to the candidate and finds the first step that adds error beyond
its due; ``operators`` goes inside that step; ``reproduction`` writes what is needed to show it elsewhere.
"""

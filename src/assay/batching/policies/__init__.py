"""When a free instance starts a batch, and how large it is: one policy a file.

A policy is a plain object without a thread or a clock of its own; the scheduler of the real
batcher and the simulator call the same methods.  Adding one touches a new file and a line here.
"""

from __future__ import annotations

# Each target is a class; see ``base.Policy`` for what it is constructed with.
POLICIES = {
    "eager": "assay.batching.policies.eager:Eager",
    "delay": "assay.batching.policies.delay:Delay",
    "adaptive": "assay.batching.policies.adaptive:Adaptive",
}

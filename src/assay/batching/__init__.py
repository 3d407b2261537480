"""The dynamic batcher: merges requests of many callers into batches one engine call serves.

No HTTP, no thread of its own (instance threads are the engine's), time injected through
``core.clock``.  ``scheduler`` decides, ``batcher`` runs it with real threads, ``simulator`` with
virtual ones.  See docs/batching.md.
"""

"""The server: the Open Inference Protocol v2 around Sessions, a batcher and a Transform.

``inference`` and ``errors`` are the nouns both protocols share, ``models`` and ``repository`` hold what
is served, ``http/`` and ``grpc/`` speak, ``server`` starts and drains.  It imports core only: sessions,
batchers and transforms are handed in by ``job/serve_*.py``.  See docs/serving.md.
"""

"""Bundles: Artifacts + Records + Verdict as a folder that can be checked, and served, elsewhere.

``manifest`` digests folders, ``pack`` writes a bundle, ``contents`` reads one, ``goldens`` keeps and
compares the golden inputs and outputs, ``check`` proves a bundle whole and re-runs its goldens.
Nothing from a bundle is ever unpickled, and no name in it is used as an import path.
"""

"""`assay serve`: bundles and models opened, wired to the server, loaded, swapped and drained."""

"""`assay evaluate`, and the evaluation inside `assay run`: through the pipeline, from dumps, against another."""

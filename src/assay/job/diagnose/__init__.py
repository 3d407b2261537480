"""`assay diagnose`: the stages opened, compared and blamed; the fix tried and measured."""

"""`assay replay`: a frozen bundle's evidence taken again, here or with another version of a library."""

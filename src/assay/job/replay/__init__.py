"""`assay replay`: a frozen bundle's evidence taken again, here, with another version of a library or another file."""

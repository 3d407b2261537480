"""`assay tune`, and the search inside `assay run`: the space, the trials, the proof of the winner."""

"""`assay bench`: one model, many, a pair, LoadGen; what is pressed and what is kept of it."""

"""`assay quantize`, and int8 inside `assay run`: disjoint samples, calibration, the drop controlled."""

"""Triton's copy travels alone, so it says for itself what is decoded."""

from assay.bundle import triton_images
from assay.core.pictures import FORMATS


def test_the_copy_for_triton_decodes_the_same_formats() -> None:
    assert triton_images._FORMATS == FORMATS

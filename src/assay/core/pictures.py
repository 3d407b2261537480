"""Pictures as files: what is decoded."""

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000")
"""By Pillow's names, whatever a file calls itself: among its other formats is one that runs Ghostscript.
``bundle/triton_images.py``, which travels alone, says them again."""

"""For every test."""

import os

from hypothesis import settings

# The gate tries the same examples every time, so that it fails for what was changed and not by luck.
# HYPOTHESIS_PROFILE=search looks for new ones.
settings.register_profile("gate", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("search", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gate"))

"""Examples are the same in every run and few; ``HYPOTHESIS_PROFILE=nightly`` looks for new ones, and for many."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

HOME = tempfile.mkdtemp(prefix="hypothesis-")
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
set_hypothesis_home_dir(HOME)

# A fixture that is a plain value (settings) may be shared by examples. No deadline: a busy machine is no failure.
settings.register_profile(
    "few",
    max_examples=80,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.register_profile("nightly", settings.get_profile("few"), max_examples=5_000, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "few"))

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.errors import SettingsError
from include.settings import PREFIX, Settings, load_settings
from tests.include.samples import VALUES

SECRET = "AKIAIOSFODNN7EXAMPLE/wJalrXUtnFEMI"
NAMES = sorted(Settings.model_fields)
# What the environment can hold: no NUL, nothing that is not UTF-8.
values = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=40) | st.sampled_from(
    ["", " ", "nan", "inf", "-inf", "1e999", "-1", "0", "0x10", "1_000", "true", "null", "[]", "{}", "١٢", "9" * 400]
)
# Checked against each other: the problem may be told of the other one.
TOGETHER = {
    "inference_units_min": "inference_units_max",
    "source_bucket": "final_bucket",
    "region": "project_version_arn",
}


@given(st.sampled_from(NAMES), values)
def test_a_setting_parses_or_is_named_in_a_settings_error_that_shows_no_secret(name: str, value: str) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        for known, usual in VALUES.items():
            patched.setenv(PREFIX + known.upper(), str(usual))
        patched.setenv(PREFIX + name.upper(), value)
        try:
            settings = load_settings()
        except SettingsError as err:
            text = str(err)
            assert PREFIX + name.upper() in text or PREFIX + TOGETHER.get(name, name).upper() in text
            assert SECRET not in text
        else:
            assert Settings.model_validate(settings.model_dump()) == settings

"""What all tests share."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    "tests.recorder_suite", "tests.analysts_suite"
)  # before anything imports them: asserts explain

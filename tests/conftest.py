"""What all tests share."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.recorder_suite")  # before anything imports it, so that its asserts explain

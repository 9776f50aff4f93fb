"""Test suites that every kind of store must pass. They need pytest; the product imports none of
them.
"""

import pytest

pytest.register_assert_rewrite(
    "engine.testing.content",
    "engine.testing.images",
    "engine.testing.tables",
    "engine.testing.writers",
)

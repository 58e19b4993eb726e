"""The examples in the docstrings of `domains` are true."""

import doctest
import importlib
import pkgutil

import pytest

import domains

MODULES = sorted({"domains", *(found.name for found in pkgutil.walk_packages(domains.__path__, "domains."))})


@pytest.mark.parametrize("name", MODULES)
def test_examples_hold(name: str) -> None:
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted > 0
    assert results.failed == 0

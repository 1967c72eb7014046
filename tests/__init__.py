"""A package, so that tests share their helpers by full name: ``from tests.runs import config``."""

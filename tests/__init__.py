"""Tests, as a package whose modules share helpers by full name (``from tests.runs import config``)."""

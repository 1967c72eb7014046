"""Provenance and atomic writing."""

from __future__ import annotations

from pathlib import Path

import pytest

from repro.errors import InputError, RunError
from repro.runtime import provenance


def test_the_environment_may_stand_in_for_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPRO_COMMIT", "abc123")
    for word, meant in (("1", True), ("true", True), ("0", False), ("no", False)):
        monkeypatch.setenv("REPRO_DIRTY", word)
        assert (provenance.commit(), provenance.dirty()) == ("abc123", meant)


def test_without_git_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REPRO_COMMIT", raising=False)
    monkeypatch.delenv("REPRO_DIRTY", raising=False)
    monkeypatch.setattr(provenance, "in_checkout", lambda: False)
    assert (provenance.commit(), provenance.dirty()) == ("unknown", None)


def test_a_file_is_replaced_whole_or_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.json"
    provenance.write_json(path, {"a": 1})

    def broken(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", broken)
        with pytest.raises(RunError, match=r"record\.json cannot be written \(No space left on device\)"):
            provenance.write_json(path, {"a": 2})
    assert provenance.read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


@pytest.mark.parametrize("text", ["{", "[1]", "\ufffd", ""])
def test_what_is_not_a_json_object_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"record\.json"):
        provenance.read_json(path)


def test_the_curve_has_one_row_an_evaluation() -> None:
    text = provenance.curve_csv([(4, 0.25, 0.1, 2.3, 90.0, 2.2, 85.5)])
    assert text.splitlines() == [
        "step,epoch,lr,train_loss,train_error,eval_loss,eval_error",
        "4,0.25,0.1,2.3,90,2.2,85.5",
    ]

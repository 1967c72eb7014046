"""A net of the user's own: registered by a decorator in its own file, shown below the paper's rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from repro.config.families import FAMILIES, own_family, registered
from repro.config.run import ModelConfig
from repro.errors import InputError
from repro.models import build_model
from repro.models.own import OWN_NETS, family
from repro.models.resnet import CifarResNet
from repro.report.html.runs import net_views
from repro.report.tables import table, to_csv
from repro.report.tensorboard import families, settings
from repro.results.read import read_records
from repro.results.settings import differing, from_paper
from tests.nets import net_config
from tests.planted import DEMO, plant

SOURCE = """
import torch  # never imported: the file is only parsed

@family("triple", "TripleNet", stages=((48, 32), (96, 16)), other_layers=3, settings=("width",))
class TripleNet(BlockNet):
    pass
"""


@pytest.fixture
def own() -> Iterator[str]:
    """Register a net as a file of one's own does, and forget it after the test."""

    @family("own_resnet", "OwnNet")
    class OwnNet(CifarResNet):
        def __init__(self, config: ModelConfig, num_classes: int) -> None:
            super().__init__(config, num_classes)

    yield "own_resnet"
    del FAMILIES["own_resnet"], OWN_NETS["own_resnet"]


def test_a_file_registers_a_family_without_being_imported(tmp_path: Path) -> None:
    (tmp_path / "triple.py").write_text(SOURCE)
    (tmp_path / "other.py").write_text("this is not Python")
    ((name, (module, found)),) = registered(tmp_path).items()
    assert (name, module) == ("triple", "triple")
    assert found == own_family("TripleNet", ((48, 32), (96, 16)), other_layers=3, settings=("width",))
    assert (found.own, found.timed, found.recipe) == (True, (128, ((48, 32), (96, 16))), "cifar10_recipe")
    assert found.settings == {"width"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('@family("triple", "TripleNet", stages=STAGES)', "triple.py"),
        ('@family("triple", "TripleNet", depth=3)', "depth"),
        ('@family("triple", "TripleNet"', "triple.py"),
        ('@family("triple")', "label"),
    ],
)
def test_a_decorator_that_cannot_be_read_is_one_sentence(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "triple.py").write_text(f"{line}\nclass TripleNet:\n    pass\n")
    with pytest.raises(InputError, match=said):
        registered(tmp_path)


def test_a_registered_net_is_built_and_has_its_label(own: str) -> None:
    config = net_config(name=own, depth=8)
    config.validate()
    assert config.label == "OwnNet-8"
    assert type(build_model(config, 10)).__name__ == "OwnNet"


def test_own_nets_stand_below_the_papers_rows_and_in_no_row_of_them(tmp_path: Path, own: str) -> None:
    for depth, error in ((20, 9.0), (56, 7.0)):
        plant(tmp_path, depth, error=error, science={"model.name": own})
        plant(tmp_path, depth, error=error + 40, scale="demo", science={**DEMO, "model.name": own})
    plant(tmp_path, 110, error=60.0, scale="demo", science={**DEMO, "model.name": own})
    plant(tmp_path, 20, error=8.5)
    filled = table(6, read_records([tmp_path]))
    rows = {row["Method"].text: {name: cell.text for name, cell in row.items()} for row in filled.rows}
    assert list(rows)[-3:] == ["OwnNet-20 (own net)", "OwnNet-56 (own net)", "OwnNet-110 (own net)"]
    assert rows["ResNet-20"]["Measured"].startswith("8.50")
    mine = rows["OwnNet-56 (own net)"]
    assert (mine["Paper"], mine["Difference"], mine["Layers"]) == ("", "–", "56")
    assert mine["Measured"].startswith("7.00")
    (proxy,) = (text for name, text in mine.items() if name.startswith("Proxy"))
    assert proxy.startswith("47.00")
    (missing,) = (note for note in filled.notes if note.startswith("Not run"))
    assert "5 of the paper's 6" in missing and "OwnNet" not in missing
    assert "OwnNet-20 (own net)" in to_csv(filled)
    assert not [row for row in table(6, read_records([])).rows if "own" in row["Method"].text]


def test_the_report_and_tensorboard_mark_own_nets(tmp_path: Path, own: str) -> None:
    for depth in (20, 56):
        plant(tmp_path, depth, error=9.0, science={"model.name": own})
        plant(tmp_path, depth, error=60.0, scale="demo", science=DEMO)
    records = read_records([tmp_path]).records
    titles = [view["title"] for view in net_views(records, {})]
    assert ["(own net)" in title for title in titles] == [False, False, True, True]
    assert "at the paper's budget" in titles[-1]
    assert set(families(records)) == {"cifar10-OwnNet (own net)", "cifar10-ResNet-A-demo"}
    assert {settings(record)["net"] for record in records if record.science.model.is_own} == {
        "OwnNet-20 (own net)",
        "OwnNet-56 (own net)",
    }


def test_an_own_net_departs_from_no_recipe_by_its_name(tmp_path: Path, own: str) -> None:
    plant(tmp_path, 20, science={"model.name": own})
    (record,) = read_records([tmp_path]).records
    assert from_paper(record.science) == {}
    assert differing(record.science, record.scale, record.exp) == ""

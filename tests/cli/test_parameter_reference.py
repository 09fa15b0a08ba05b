"""docs/parameters.md lists every parameter as the classes define it."""

from conftest import ROOT

from ust.cli.parameter_reference import parameter_reference


def test_parameter_page_is_up_to_date():
    assert (ROOT / "docs" / "parameters.md").read_text("utf-8") == parameter_reference()


def test_every_parameter_with_a_default_is_described():
    rows = [line.split(" | ") for line in parameter_reference().splitlines() if line.startswith("| `")]
    unexplained = [row[0] for row in rows if row[2].strip() and not row[3].strip(" |")]
    assert not unexplained

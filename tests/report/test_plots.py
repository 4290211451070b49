"""Figures of reports: which there are, and that names in them are only text."""

from pathlib import Path

import pytest
from PIL import Image

from cwbench.internal.errors import CwbenchError
from cwbench.report.plots import figures, write_figures
from cwbench.report.report import read_report

MNIST = Path(__file__).parent / "written" / "v1-mnist-madry.json"


def test_each_figure_is_written_as_png_and_svg_and_is_the_same_again(tmp_path):
    report = read_report(MNIST)
    paths = write_figures(report, tmp_path / "figures")
    assert {path.stem for path in paths} == {"classes", "confusion-clean", "confusion-pgd"}
    first = {path: path.read_bytes() for path in paths}
    for path in paths:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert min(image.size) > 300
        else:
            assert path.read_text().startswith("<?xml")
    assert {path: path.read_bytes() for path in write_figures(report, tmp_path / "figures")} == first


def test_bars_and_cells_are_the_reports(tmp_path):
    report = read_report(MNIST)
    drawn = dict(figures(report))
    widths = [patch.get_width() for patch in drawn["classes"].axes[0].patches]
    clean = [100 * share for share in report.class_accuracy("clean").values()]
    worst = [100 * entry.accuracy for entry in report.worst_case().classes]
    assert widths == pytest.approx([*clean, *worst])
    counts = [int(text.get_text()) for text in drawn["confusion-pgd"].axes[0].texts]
    assert counts == [count for row in report.confusion("pgd") for count in row if count]


def test_curves_over_eps_and_epochs(tmp_path):
    import cwbench

    report = cwbench.run(
        "madry", ["cw:iterations=5,searches=1"], limit=20, every=3, set={"recipe.epochs": 6, "recipe.eps_warmup": 0.3}
    )
    drawn = dict(figures(report))
    assert set(drawn) == {
        "classes",
        "confusion-clean",
        "confusion-cw-iterations=5-searches=1",
        "eps-cw-iterations=5-searches=1",
        "epochs",
    }
    lines = {line.get_label().lstrip("\u200b"): line for line in drawn["epochs"].axes[0].lines}
    assert list(lines["all classes"].get_xdata()) == [3, 6]
    assert len(lines) == 11
    over_eps = {line.get_label(): line for line in drawn["eps-cw-iterations=5-searches=1"].axes[0].lines}
    expected = [100 * share for share in report.accuracy_by_eps("cw").values()]
    assert list(over_eps["all classes"].get_ydata()) == pytest.approx(expected)


def test_names_are_text_and_not_formulas(tmp_path):
    report = read_report(MNIST)
    classes = ["$\\frac{", "_hidden", "猫", "<svg onload=alert(1)>", "x" * 500, *"56789"]
    dataset = report.dataset.model_copy(update={"classes": classes, "superclasses": {"a": [0, 2, 4], "b": [1, 3]}})
    report = report.model_copy(update={"dataset": dataset, "subject": "$\\evil$\x1b"})
    paths = write_figures(report, tmp_path)
    assert not any("<svg onload" in path.read_text() for path in paths if path.suffix == ".svg")


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CwbenchError, match="cannot write into"):
        write_figures(read_report(MNIST), tmp_path / "file" / "figures")

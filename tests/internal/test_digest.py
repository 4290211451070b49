"""The digest of code: what changes it, what does not, and how far it reaches."""

import sys
from pathlib import Path

import pytest

from cwbench.internal import digest


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of a plugin's: the defense imports its losses, which import a constant."""
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / f"plug_{tmp_path.name}"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "defense.py").write_text(
        '"""Doc."""\nfrom . import losses\n\n\ndef loss(x):\n    """Doc."""\n    return losses.total(x)\n'
    )
    (folder / "losses.py").write_text("def total(x):\n    from .deep.constants import SIGN\n    return SIGN * x\n")
    (folder / "deep").mkdir()
    (folder / "deep" / "__init__.py").write_text("")
    (folder / "deep" / "constants.py").write_text("SIGN = 1\n")
    (folder / "unrelated.py").write_text("x = 1\n")
    return folder


def code(folder: Path, **options) -> str:
    return digest.of_code(f"{folder.name}.defense", **options)


@pytest.mark.parametrize("name", ["defense.py", "losses.py", "deep/constants.py", "__init__.py"])
def test_a_change_anywhere_it_imports_from_changes_it(package, name):
    before = code(package)
    assert code(package) == before
    path = package / name
    path.write_text(path.read_text().replace("1", "-1") + "\nchanged = True\n")
    assert code(package) != before


def test_comments_docstrings_and_other_files_do_not(package):
    before = code(package)
    path = package / "defense.py"
    path.write_text(path.read_text().replace("Doc.", "Another text.") + "\n# a comment\n")
    (package / "unrelated.py").write_text("x = 2\n")
    assert code(package) == before


def test_what_is_skipped_is_not_followed(package):
    name = f"{package.name}.losses"
    before = code(package, skip=[name])
    (package / "losses.py").write_text("changed = True\n")
    assert code(package, skip=[name]) == before


def test_a_module_beside_a_single_file_is_its_own(tmp_path, monkeypatch):
    """A plugin of two modules that no distribution claims, as an editable install or a script leaves them."""
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"single_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(f"import {name}_losses\nimport json, torch\n")
    (tmp_path / f"{name}_losses.py").write_text("SIGN = 1\n")
    before = digest.of_code(name)
    assert digest.of_code(name) == before
    (tmp_path / f"{name}_losses.py").write_text("SIGN = -1\n")
    assert digest.of_code(name) != before


def test_packages_that_cannot_be_imported_or_read_stop_nothing(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"lazy_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(f"def optional():\n    from {name}_side.sub import thing\n")
    (tmp_path / f"{name}_side").mkdir()
    (tmp_path / f"{name}_side" / "__init__.py").write_text("raise RuntimeError('not today')\n")
    (tmp_path / f"{name}_side" / "sub.py").write_text("thing = 1\n")
    digest.of_code(name)
    (tmp_path / f"{name}.py").write_text("def (")
    assert digest.of_code(name) != digest.of_code(name), "what cannot be read is never taken for the same"


def test_it_reaches_into_cwbench():
    """The defense's digest holds the losses and the ascent, and the backbone's its normalisation."""
    assert reached("cwbench.defenses.madry", "cwbench.api.projected_ascent")
    assert reached("cwbench.defenses.mart", "cwbench.api.adversarial_defense")
    assert reached("cwbench.backbones.mnist_cnn", "cwbench.backbones.normalize")
    assert reached("cwbench.training.fit", "cwbench.training.job")
    assert reached("cwbench.training.fit", "cwbench.api.recipe")
    assert reached("cwbench.training.fit", "cwbench.api")
    assert not reached("cwbench.training.fit", "cwbench.report.report")
    assert not reached("cwbench.training.fit", "cwbench.attacks.pgd")


def reached(start: str, module: str) -> bool:
    from cwbench.training.job import NO_INFLUENCE

    return digest.of_code(start, skip=NO_INFLUENCE) != digest.of_code(start, skip=[*NO_INFLUENCE, module])


def test_code_without_a_file_is_never_taken_for_the_same(monkeypatch):
    module = type(sys)("typed_in")
    monkeypatch.setitem(sys.modules, "typed_in", module)
    assert digest.of_code("typed_in") != digest.of_code("typed_in")

"""The start of a plugin: a distribution that installs, runs and passes its own test before anything is changed."""

import re
from importlib.resources import files
from pathlib import Path

from cwbench.internal.errors import UsageError
from cwbench.internal.files import new_folder, writing_into
from cwbench.plugins.discovery import API_VERSION, RESERVED
from cwbench.plugins.registry import installed


def create(name: str, kind: str, into: Path) -> Path:
    """Write a new plugin into the folder ``into``/cwbench-NAME, whole or not at all, and return that folder.

    Raises:
        UsageError: the name is none or is taken, or the folder exists or cannot be written.
    """
    if not re.fullmatch(r"[a-z0-9](-?[a-z0-9]){0,59}", name) or name in RESERVED:
        raise UsageError(
            f"{name[:80]!r} is no name for a plugin", "up to 60 lower-case letters, digits, single hyphens: my-attack"
        )
    module = f"cwbench_{name.replace('-', '_')}"
    rivals = [offer for offer in installed().offers(kind) if offer.cls.name == name]
    if rivals:
        raise UsageError(f"the {kind} {name!r} exists already, from {rivals[0].origin.distribution}", "choose another")
    words = {
        "NAME": name,
        "MODULE": module,
        "CLASS": _class_name(name, kind),
        "KIND": kind,
        "BASE": kind.capitalize(),
        "API": str(API_VERSION),
        "RUN": _RUN[kind].format(name=name),
    }
    folder = into / f"cwbench-{name}"
    if folder.exists():
        raise UsageError(f"{folder} exists already", "choose another name, or another folder with --into")
    templates = files(__package__) / "templates"
    content = {
        "pyproject.toml": (templates / "pyproject.toml.txt").read_text(encoding="utf-8"),
        "README.md": (templates / "README.md.txt").read_text(encoding="utf-8"),
        f"{module}.py": (templates / f"{kind}.py.txt").read_text(encoding="utf-8"),
        f"tests/test_{module.removeprefix('cwbench_')}.py": (templates / "test.py.txt").read_text(encoding="utf-8"),
    }
    with writing_into(into, "choose another folder with --into"), new_folder(folder) as draft:
        (draft / "tests").mkdir()
        for path, text in content.items():
            (draft / path).write_text(_filled(text, words), encoding="utf-8")
    return folder


_RUN = {
    "attack": "cwbench run --defense madry --attack {name}",
    "defense": "cwbench run --defense {name} --attack pgd",
    "dataset": "cwbench run --defense madry --attack pgd --dataset {name}",
    "backbone": "cwbench run --defense madry --attack pgd --backbone {name}",
}


def _class_name(name: str, kind: str) -> str:
    """Return CamelCase that ends with the kind, ``MineAttack``: without it a class could be called as what it uses."""
    camel = "".join(part.capitalize() for part in name.split("-"))
    own = camel if camel.endswith(kind.capitalize()) and camel != kind.capitalize() else camel + kind.capitalize()
    return f"My{own}" if own[0].isdigit() else own


def _filled(text: str, words: dict[str, str]) -> str:
    return re.sub(r"\{\{([A-Z]+)\}\}", lambda found: words[found[1]], text)

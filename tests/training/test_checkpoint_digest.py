"""What determines a checkpoint: the code that can change its weights, and nothing else.

Edits are made in a copy of the package, and the digests are computed by a process that finds the copy first.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cwbench
from cwbench.internal import code_digest
from cwbench.plugins.registry import installed
from cwbench.training.job import DECIDE_WEIGHTS

PACKAGE = Path(cwbench.__file__).parent
DEFENSES = {"standard", "madry", "trades", "mart", "rst", "he", "he-lis", "he-cmp", "fast"}
NOTHING: set[str] = set()
EDITS = {
    "a new field of a report": (
        [("report/records.py", "    seed: Count\n", "    seed: Count\n    more: int\n")],
        NOTHING,
    ),
    "an unused function in the statistics": (
        [("report/intervals.py", "def holm(", "def unused():\n    return 1\n\n\ndef holm(")],
        NOTHING,
    ),
    "another wording of an error": (
        [("training/fit.py", "they must be", "they are"), ("api/threat.py", "unknown norm", "there is no norm")],
        NOTHING,
    ),
    "a docstring": ([("training/fit.py", '"""Train one epoch.', '"""Train for one epoch.')], NOTHING),
    "a comment": ([("defenses/mart.py", "from cwbench.api", "# a comment\nfrom cwbench.api")], NOTHING),
    "the base class of attacks": ([("api/attack.py", "pooled: ClassVar[bool] = False", "pooled = True")], NOTHING),
    "the base class of PGD": ([("api/projected_attack.py", '("steps", "restarts")', '("steps",)')], NOTHING),
    "the page that names are imported from": (
        [("api/__init__.py", "from cwbench", "import os\nfrom cwbench")],
        NOTHING,
    ),
    "what is told to observers": (
        [("api/events.py", "    loss: float\n", "    loss: float\n    more: int\n")],
        NOTHING,
    ),
    "the harness": ([("evaluation/harness.py", "import", "import os\nimport")], NOTHING),
    "the command line": ([("cli/run.py", "import", "import os\nimport")], NOTHING),
    "the board": ([("leaderboard/rank.py", "import", "import os\nimport")], NOTHING),
    "plans, and the store": (
        [("plan.py", "import", "import os\nimport"), ("checkpoints/store.py", "import", "import os\nimport")],
        NOTHING,
    ),
    "the loss of MART": ([("api/mart_loss.py", "beta * weighted", "2 * beta * weighted")], {"mart"}),
    "the loss of TRADES": ([("api/trades_loss.py", "beta * robust", "2 * beta * robust")], {"trades", "rst"}),
    "where Madry's attack begins": ([("defenses/madry.py", "threat.random_start(x, streams=streams)", "x")], {"madry"}),
    "the ascent": ([("api/projected_ascent.py", "threat.steepest(gradient)", "gradient")], DEFENSES),
    "the optimiser": ([("training/optimizer.py", "momentum=kind.momentum", "momentum=0")], DEFENSES),
    "the network": ([("backbones/resnet18.py", "bias=False", "bias=True")], DEFENSES),
    "the mean over processes": ([("training/synchronise.py", "weight / team.size", "weight")], DEFENSES),
}
"""Edits by what is edited, (file, old, new), and the defenses whose checkpoints must be trained again."""
SCRIPT = """
import json, sys
from pathlib import Path
folder, starts, packages, edits = sys.argv[1], *map(json.loads, sys.argv[2:])
sys.path.insert(0, folder)
from cwbench.internal import code_digest, digest
assert code_digest.__file__.startswith(folder), code_digest.__file__

def digests():
    return {name: code_digest.of_code(*modules, packages=packages) for name, modules in starts.items()}

found = {"": digests()}
for name, parts in edits.items():
    texts = {place: (Path(folder) / "cwbench" / place).read_text(encoding="utf-8") for place, _, _ in parts}
    for place, old, new in parts:
        assert old in texts[place], f"{place} has changed: nothing is edited"
        (Path(folder) / "cwbench" / place).write_text(texts[place].replace(old, new, 1), encoding="utf-8")
    found[name] = digests()
    for place, text in texts.items():
        (Path(folder) / "cwbench" / place).write_text(text, encoding="utf-8")
print(json.dumps(found))
"""


def starts() -> dict[str, list[str]]:
    """Return where the digest of each defense's checkpoint begins: the training, and the classes of its plugins."""
    registry = installed()

    network = [*registry.backbone("resnet18").defined_in(), *registry.dataset("cifar10").defined_in()]
    return {name: ["cwbench.training.fit", *network, *registry.defense(name).defined_in()] for name in sorted(DEFENSES)}


def digests_of(
    folder: Path, edits: dict[str, object], begin: dict[str, list[str]] | None = None
) -> dict[str, dict[str, str]]:
    """Return the digest of each defense's code in a copy of the package, as it is and after each edit alone."""
    arguments = [str(folder), *map(json.dumps, (begin or starts(), DECIDE_WEIGHTS, edits))]
    command = [sys.executable, "-B", "-c", SCRIPT, *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder).stdout)


def copy_of_the_package(folder: Path) -> Path:
    shutil.copytree(PACKAGE, folder / "cwbench", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The digests of each defense's code, by what was edited; under the empty name those of the package as it is."""
    folder = copy_of_the_package(tmp_path_factory.mktemp("copy"))
    return digests_of(folder, {name: edits for name, (edits, _) in EDITS.items()})


def test_the_digest_reaches_the_training_and_its_plugins_and_nothing_that_cannot_change_a_weight():
    reached = {name for modules in starts().values() for name in code_digest.code_of(*modules, packages=DECIDE_WEIGHTS)}
    assert {name.split(".")[1] for name in reached} == {"api", "backbones", "datasets", "defenses", "training"}
    assert {"cwbench.training.fit", "cwbench.training.batches", "cwbench.api.projected_ascent"} <= reached
    assert {"cwbench.defenses.mart", "cwbench.api.mart_loss", "cwbench.backbones.normalize"} <= reached
    # Neither the side of attacks nor the page itself is reached through an import from cwbench.api.
    assert not {"cwbench.api", *(f"cwbench.api.{n}" for n in ("attack", "projected_attack", "restarts"))} & reached
    assert not {f"cwbench.api.{name}" for name in ("hooks", "events", "checkpoint")} & reached


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_changes_the_digests_of_the_checkpoints_whose_weights_it_can_change(found, name):
    _, expected = EDITS[name]
    assert {defense for defense in DEFENSES if found[name][defense] != found[""][defense]} == expected


@pytest.mark.parametrize("place", ["api", "attacks"])
def test_a_module_that_moves_changes_no_digest(found, tmp_path, place):
    package = copy_of_the_package(tmp_path) / "cwbench"
    (package / "api" / "trades_loss.py").rename(package / place / "moved.py")
    for path in package.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        path.write_text(
            text.replace("cwbench.api.trades_loss import", f"cwbench.{place}.moved import"), encoding="utf-8"
        )
    assert digests_of(tmp_path, {})[""] == found[""]


PLUGINS = {
    "a name": "from cwbench.api import mart_loss",
    "another name": "from cwbench.api import mart_loss as loss",
    "everything": "from cwbench.api import *",
    "everything of a module": "from cwbench.api.mart_loss import *",
    "the page": "from cwbench import api\n\ndef loss(*given): return api.mart_loss(*given)",
    "the page by another name": "import cwbench.api as page\n\ndef loss(*given): return page.mart_loss(*given)",
    "the package": "import cwbench\n\ndef loss(*given): return cwbench.api.mart_loss(*given)",
    "the package and its page": "import cwbench.api\n\nclass Loss:\n    step = cwbench.api.mart_loss",
    "a computed name": "from cwbench import api\n\nloss = getattr(api, 'mart' + '_loss')",
    "a package that is passed on": "import cwbench as bench\n\nfind = [bench]",
}
"""Ways in which a plugin may come by the loss of MART."""


def test_a_loss_is_reached_however_a_plugin_imports_it(tmp_path):
    folder = copy_of_the_package(tmp_path)
    begin = {}
    for number, (way, source) in enumerate(PLUGINS.items()):
        (folder / f"plugin_{number}.py").write_text(source, encoding="utf-8")
        begin[way] = [f"plugin_{number}"]
    edits = {"mart": [("api/mart_loss.py", "beta * weighted", "2 * beta * weighted")]}
    found = digests_of(folder, edits, begin)
    assert [way for way in PLUGINS if found["mart"][way] == found[""][way]] == []


def test_what_a_plugin_takes_from_the_page_by_attributes_is_all_that_it_reaches(tmp_path):
    folder = copy_of_the_package(tmp_path)
    for number, way in enumerate(("the page", "the page by another name", "the package")):
        (folder / f"plugin_{number}.py").write_text(PLUGINS[way], encoding="utf-8")
    edits = {"trades": [("api/trades_loss.py", "beta * robust", "2 * beta * robust")]}
    found = digests_of(folder, edits, {str(number): [f"plugin_{number}"] for number in range(3)})
    assert found["trades"] == found[""]

"""One place for each option: a field of the settings reaches the command line, the Python functions and the digest."""

import inspect
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cwbench
from cwbench.pipeline.evaluation_digest import evaluation_digest
from cwbench.plan import plan_evaluation
from cwbench.plugins.registry import installed
from cwbench.spec import EvaluationSettings, RunSpec
from cwbench.sweep.grid import SweepSpec, cells_of

PACKAGE = Path(cwbench.__file__).parent
FIELD = '''    patience: Annotated[int, Field(ge=1)] = 3
    """How long to wait for it."""
'''
SCRIPT = """
import inspect, json, sys
sys.path.insert(0, sys.argv[1])
import cwbench
from cwbench.cli import main
from cwbench.datasets import splits
from cwbench.pipeline.evaluation_digest import evaluation_digest
from cwbench.plan import plan_evaluation
from cwbench.plugins.registry import installed
from cwbench.spec import RunSpec
from cwbench.study.settings import Machine, Scale
from cwbench.sweep.grid import SweepSpec, cells_of

def digest(patience):
    spec = RunSpec(defense="madry", attacks="pgd", patience=patience)
    plan = plan_evaluation(spec, spec.dataset, installed())
    return evaluation_digest(plan, "0" * 64, splits.open_split(plan.dataset, "test", None), {})

report = cwbench.evaluate(lambda x: x.flatten(1)[:, 20:30], "fgsm", limit=20, patience=5)
try:
    cwbench.evaluate(lambda x: x, "fgsm", patience=0)
except cwbench.UsageError as error:
    refused = str(error)
(cell,) = cells_of(SweepSpec(name="one", defenses="madry", attacks="pgd", run={"patience": 7}))
machine = Machine(every=1, settings={"patience": 8})
print(json.dumps({
    "package": cwbench.__file__,
    "evaluate": str(inspect.signature(cwbench.evaluate).parameters["patience"]),
    "documented": "patience: How long to wait for it." in cwbench.evaluate.__doc__,
    "run": "patience" in inspect.signature(cwbench.run).parameters,
    "refused": refused,
    "digest": digest(3) != digest(4),
    "sweep": cell.spec.settings.patience,
    "study": Scale().run("madry", "pgd", 0, machine).patience,
}))
for command in ("run", "study"):
    sys.argv = ["cwbench", command, "--help"]
    try:
        main()
    except SystemExit:
        pass
"""


def test_a_field_that_is_added_reaches_everything_without_another_line(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "cwbench", ignore=shutil.ignore_patterns("__pycache__"))
    spec = tmp_path / "cwbench" / "spec.py"
    text = spec.read_text(encoding="utf-8")
    assert text.count("    cascade: bool = False\n") == 1
    spec.write_text(
        text.replace("    cascade: bool = False\n", f"{FIELD}    cascade: bool = False\n"), encoding="utf-8"
    )
    command = [sys.executable, "-B", "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    found, _, shown = done.stdout.partition("\n")
    told = json.loads(found)
    assert told.pop("package").startswith(str(tmp_path))
    assert told.pop("refused").startswith("the evaluation: patience: Input should be greater than or equal to 1")
    assert told == {
        "evaluate": "patience: int = 3",
        "documented": True,
        "run": True,
        "digest": True,
        "sweep": 7,
        "study": 8,
    }
    helps = [" ".join(line.split()) for line in shown.splitlines() if "--patience" in line]
    assert helps == ["--patience INTEGER How long to wait for it. [default: 3]"] * 2


def shown_by(function) -> dict[str, object]:
    return {name: p.default for name, p in inspect.signature(function).parameters.items()}


def test_the_python_functions_show_every_setting_with_its_default():
    for name, field in EvaluationSettings.model_fields.items():
        assert shown_by(cwbench.evaluate)[name] == field.default
        assert shown_by(cwbench.run)[name] == field.default
        assert f"        {name}: " in cwbench.evaluate.__doc__
    assert set(RunSpec.model_fields) <= set(shown_by(cwbench.run))


def test_an_unknown_setting_is_refused_with_the_closest_name():
    with pytest.raises(cwbench.UsageError, match=r"the evaluation has no field 'limits' \(did you mean limit\?"):
        cwbench.evaluate(lambda x: x, "fgsm", limits=3)


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({"seed": 1}, False),
        ({"limit": 50}, False),
        ({"batch_size": 8}, False),
        ({"precision": "fp32"}, False),
        ({"cascade": True}, False),
        ({"device": "cpu"}, True),  # what auto is on a machine without a GPU
    ],
)
def test_what_a_killed_evaluation_goes_on_by(changed, same, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    from cwbench.datasets import splits

    def digest(options):
        spec = RunSpec(defense="madry", attacks="pgd", **options)
        plan = plan_evaluation(spec, spec.dataset, installed())
        return evaluation_digest(plan, "0" * 64, splits.open_split(plan.dataset, "test", None), {})

    assert (digest(changed) == digest({})) is same


def test_a_sweep_takes_settings_by_the_same_names():
    (cell,) = cells_of(SweepSpec(name="one", defenses="madry", attacks="pgd", run={"limit": 9, "cascade": True}))
    assert cell.spec.settings == EvaluationSettings(limit=9, cascade=True, precision="fp32")

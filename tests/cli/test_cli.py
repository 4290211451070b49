"""The command line as a user meets it: real processes where it matters, in this process where it does not."""

import json
import os
import re
import subprocess
import sys

import jsonschema
import pytest

from cwbench.cli import COMMANDS, main
from cwbench.datasets.digits import Digits
from cwbench.internal.errors import CwbenchError
from cwbench.plugins.contract.named import check_offer
from cwbench.plugins.discovery import Offer, Origin
from cwbench.report.report import read_report, schema

HERE = Origin("here", "here", "1")
QUICK = ["--set", "recipe.epochs=2", "--limit", "30"]


@pytest.fixture
def cwbench(monkeypatch, capsys):
    """Return a function that runs the command line in this process: (exit code, stdout, stderr)."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cwbench", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return run


def test_a_run_prints_the_table_and_writes_a_valid_report(cwbench, tmp_path):
    out = tmp_path / "runs"
    code, printed, errors = cwbench("run", "--defense", "mart", "--attack", "tpgd", "--out", str(out), *QUICK)
    assert (code, errors) == (0, "")
    rows = [line.split()[0] for line in printed.splitlines() if line]
    assert rows[3:13] == [str(digit) for digit in range(10)]
    for text in ("overall", "worst class", "gap", "95 % interval", "clean", "tpgd", "30 of 899"):
        assert text in printed
    path = printed.splitlines()[-1]
    assert sorted(os.listdir(os.path.dirname(path))) == ["predictions.safetensors", "report.json"]  # noqa: PTH120, PTH208
    code, printed, _ = cwbench("report", "validate", path)
    assert (code, printed) == (0, f"{path}: valid, schema version 1, predictions agree\n")


def test_with_json_stdout_is_the_report_and_nothing_else(cwbench, tmp_path):
    code, printed, _ = cwbench("run", "--defense", "mart", "--attack", "tpgd", "--json", "--out", str(tmp_path), *QUICK)
    assert code == 0
    jsonschema.validate(json.loads(printed), schema())
    (path,) = tmp_path.glob("*/report.json")
    assert path.read_text() == printed


def test_eps_is_kept_exactly(cwbench, tmp_path):
    _, printed, _ = cwbench(
        "run", "--defense", "standard", "--attack", "fgsm", "--eps", "8/255", "--json", "--out", str(tmp_path), *QUICK
    )
    assert json.loads(printed)["threat"]["eps"] == {"text": "8/255", "value": 8 / 255}


def test_curves_are_recorded_on_request(cwbench, tmp_path):
    _, printed, _ = cwbench(
        "run", "--defense", "standard", "--attack", "fgsm", "--every", "1", "--json", "--out", str(tmp_path), *QUICK
    )
    curves = json.loads(printed)["training"]["curves"]
    assert [point["epoch"] for point in curves] == [1, 2]
    assert curves[0]["n"] == [3] * 10
    assert all(
        robust <= clean <= 3 for point in curves for robust, clean in zip(point["robust"], point["clean"], strict=True)
    )


def test_the_last_point_of_the_curves_is_the_report(cwbench, tmp_path):
    """After the last epoch the curve's counts are those of the report, clean and under the dataset's PGD."""
    arguments = ["--defense", "standard", "--attack", "pgd", "--every", "2", "--json", "--out", str(tmp_path)]
    _, printed, _ = cwbench("run", *arguments, "--set", "recipe.epochs=4", "--limit", "200")
    report = json.loads(printed)
    first, last = report["training"]["curves"]
    assert (first["epoch"], last["epoch"]) == (2, 4)
    assert last["clean"] == [row[index] for index, row in enumerate(report["clean"]["confusion"])]
    assert last["robust"] == [row[index] for index, row in enumerate(report["attacks"][0]["confusion"])]
    assert last["robust"] != last["clean"]


def test_curves_are_measured_anew_for_another_limit(cwbench, tmp_path):
    arguments = ["--defense", "standard", "--attack", "fgsm", "--every", "1", "--json", "--out", str(tmp_path)]
    counts = []
    for limit in ("20", "30"):
        _, printed, _ = cwbench("run", *arguments, "--set", "recipe.epochs=1", "--limit", limit)
        counts.append(sum(json.loads(printed)["training"]["curves"][0]["n"]))
    assert counts == [20, 30]


def test_a_read_only_cache_that_holds_the_checkpoint_is_enough(cwbench, tmp_path, monkeypatch):
    """Nothing is asked to be writable but the folder of the runs: root, who runs these tests, may write anywhere."""
    monkeypatch.setenv("CWBENCH_CACHE", str(tmp_path / "cache"))
    arguments = ["run", "--defense", "standard", "--attack", "fgsm", "--out", str(tmp_path / "runs"), *QUICK]
    assert cwbench(*arguments)[0] == 0
    monkeypatch.setattr("cwbench.pipeline.runner.require_writable", _only_runs(tmp_path / "runs"))
    assert cwbench(*arguments)[0] == 0


def _only_runs(allowed):
    def check(folder, room):
        assert folder == allowed

    return check


def test_a_run_file_and_options_that_override_it(cwbench, tmp_path):
    (tmp_path / "run.yaml").write_text(
        "defense: standard\nattacks: [fgsm]\nlimit: 30\nseed: 5\nset: {recipe.epochs: 2}\n"
    )
    _, printed, _ = cwbench(
        "run", "--config", str(tmp_path / "run.yaml"), "--seed", "6", "--json", "--out", str(tmp_path)
    )
    report = json.loads(printed)
    assert report["provenance"]["seed"] == 6
    assert report["dataset"]["limit"] == 30
    _, printed, _ = cwbench(
        "run", "--config", str(tmp_path / "run.yaml"), "--set", "recipe.lr=0.5", "--json", "--out", str(tmp_path)
    )
    recipe = json.loads(printed)["training"]["recipe"]
    assert (recipe["epochs"], recipe["lr"]) == (2, 0.5), "--set adds to the file's set"


BAD = {
    "defense": (["--defense", "mrat"], "no defense is named 'mrat' (did you mean mart?"),
    "no defense": (["--attack", "pgd"], "it names neither a defense nor a checkpoint"),
    "attack": (["--defense", "mart", "--attack", "tgpd"], "did you mean tpgd"),
    "field": (
        ["--defense", "mart", "--attack", "pgd:step=3"],
        "attack pgd has no field 'step' (did you mean steps or step_size?",
    ),
    "value": (["--defense", "mart:beta=-1"], "defense mart: beta"),
    "nan": (["--defense", "mart:beta=nan"], "defense mart: beta"),
    "infinite": (["--defense", "mart", "--attack", "pgd:step_size=inf"], "attack pgd: step_size"),
    "eps zero": (["--defense", "mart", "--eps", "0"], "bad eps: eps must be above 0"),
    "eps negative": (["--defense", "mart", "--eps=-8/255"], "bad eps: eps must be above 0"),
    "eps by zero": (["--defense", "mart", "--eps", "8/0"], "divides by zero"),
    "eps above 1": (["--defense", "mart", "--eps", "8"], "write 8/255, not 8"),
    "eps text": (["--defense", "mart", "--eps", "eight"], "is not a number"),
    "eps huge": (["--defense", "mart", "--eps", "1e99999999"], "is not finite"),
    "eps hugest": (["--defense", "mart", "--eps", "1/" + "9" * 5000], "is not a number"),
    "steps": (["--defense", "mart", "--attack", "pgd:steps=99999999999999999999999"], "attack pgd: steps"),
    "eps nan": (["--defense", "mart", "--eps", "nan"], "is not finite"),
    "seed": (["--defense", "mart", "--seed", "x"], "seed"),
    "limit": (["--defense", "mart", "--limit", "0"], "limit"),
    "batch size": (["--defense", "mart", "--batch-size", "-1"], "batch_size"),
    "every": (["--defense", "mart", "--every", "0"], "every"),
    "norm": (["--defense", "mart", "--norm", "L1"], "norm"),
    "dataset": (["--defense", "mart", "--dataset", "cifar"], "no dataset is named 'cifar'"),
    "data": (["--defense", "mart", "--data", "/nowhere"], "the data folder /nowhere does not exist"),
    "no mnist": (["--defense", "mart", "--dataset", "mnist", "--data", "."], "mnist in"),
    "recipe": (["--defense", "mart", "--recipe", "papr"], "did you mean paper"),
    "set": (["--defense", "mart", "--set", "recipe.epochs"], "is not FIELD=VALUE"),
    "device": (["--defense", "mart", "--device", "tpu0"], "device 'tpu0' cannot be used"),
    "config": (["--config", "nowhere.yaml"], "cannot read nowhere.yaml"),
    "out": (["--defense", "mart", "--out", "/dev/null/runs"], "cannot write into /dev/null/runs"),
    "backbone": (["--defense", "mart", "--backbone", "mnist-cnn"], "needs images of at least 16×16, not 8×8"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_exit_code_2_and_nothing_written(name, cwbench, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CWBENCH_CACHE", str(tmp_path / "cache"))
    arguments, complaint = BAD[name]
    code, printed, errors = cwbench("run", *arguments)
    assert code == 2
    assert printed == ""
    assert complaint in errors
    assert errors.count("\n") == 1
    assert errors.startswith("cwbench: ")
    assert list(tmp_path.iterdir()) == []


def test_a_corrupt_checkpoint_in_the_cache_is_named_and_kept(cwbench, tmp_path, monkeypatch):
    monkeypatch.setenv("CWBENCH_CACHE", str(tmp_path / "cache"))
    arguments = ["run", "--defense", "standard", "--attack", "fgsm", "--out", str(tmp_path / "runs"), *QUICK]
    assert cwbench(*arguments)[0] == 0
    (weights,) = tmp_path.glob("cache/checkpoints/*/weights.safetensors")
    content = weights.read_bytes()
    weights.write_bytes(b"<!DOCTYPE html>")
    code, _, errors = cwbench(*arguments)
    assert code == 2
    assert f"the cached checkpoint {weights.parent} is damaged" in errors
    assert weights.exists()
    weights.write_bytes(content)
    assert cwbench(*arguments)[0] == 0
    assert len(list((tmp_path / "runs").iterdir())) == 2, "nothing is overwritten"


def test_report_show_in_both_styles(cwbench, report_file):
    code, plain, _ = cwbench("report", "show", str(report_file))
    assert code == 0
    assert "madry on digits, Linf eps 0.1" in plain
    assert "worst case" in plain
    _, markdown, _ = cwbench("report", "show", "--format", "markdown", str(report_file))
    tables = [part.splitlines() for part in markdown.strip().split("\n\n") if part.startswith("|")]
    assert [len({line.count("|") for line in table}) for table in tables] == [1, 1]
    assert [len(table) for table in tables] == [2 + 10 + 5, 2 + 2]


def test_report_compare(cwbench, report_file, other_report_file):
    code, printed, _ = cwbench("report", "compare", str(report_file), str(other_report_file), "--condition", "pgd")
    assert code == 0
    header, _, overall, *classes = printed.splitlines()[2:]
    assert header.split() == ["class", "madry", "standard", "difference", "p", "(McNemar,", "Holm)"]
    first, second = (read_report(path).accuracy("pgd") for path in (report_file, other_report_file))
    assert overall.split()[1:4] == [f"{100 * first:.1f}", f"{100 * second:.1f}", f"{100 * (second - first):+.1f}"]
    assert len(classes) == 10
    _, every, _ = cwbench("report", "compare", str(report_file), str(other_report_file))
    assert every.count("% correct") == 3


@pytest.mark.parametrize("command", [["report", "show"], ["report", "validate"], ["report", "compare", "x.json"]])
def test_a_file_that_is_no_report_is_one_line(command, cwbench, tmp_path):
    path = tmp_path / "page.json"
    path.write_text("<html>")
    code, _, errors = cwbench(*command, str(path))
    assert code == 2
    assert errors.count("\n") == 1


def test_list_and_show(cwbench):
    _, everything, _ = cwbench("list")
    for name in ("mart", "tpgd", "mnist", "digits-cnn"):
        assert name in everything
    _, attacks, _ = cwbench("list", "attacks")
    assert "tpgd" in attacks
    assert "mart" not in attacks
    _, shown, _ = cwbench("show", "tpgd")
    assert "inverse_temperature" in shown
    assert "5.0" in shown
    assert "access: white-box" in shown
    assert "norms: Linf, L2" in shown
    _, shown, _ = cwbench("show", "mnist")
    assert "recipe paper" in shown
    assert "standard suite: fgsm, pgd, cw-pgd, tpgd, transfer, square, autoattack" in shown
    code, _, errors = cwbench("show", "tpdg")
    assert code == 2
    assert "did you mean tpgd" in errors


def test_list_checkpoints(cwbench, report_file):
    _, printed, _ = cwbench("list", "checkpoints")
    assert read_report(report_file).training.checkpoint[:12] in printed


def test_schema_prints_and_writes(cwbench, tmp_path, request):
    _, printed, _ = cwbench("schema")
    assert json.loads(printed) == json.loads(json.dumps(schema()))
    _, path, _ = cwbench("schema", "--write", str(tmp_path))
    assert (tmp_path / "report.v1.json").read_text() == printed
    names = ("report.v1.json", "leaderboard.v1.json", "study.v1.json", "sweep.json")
    assert path.split() == [str(tmp_path / name) for name in names]
    for name in names:
        committed = (request.config.rootpath / "schemas" / name).read_text()
        assert committed == (tmp_path / name).read_text(), "run: cwbench schema --write schemas"
    code, _, errors = cwbench("schema", "--write", str(tmp_path / "no"))
    assert code == 2
    assert "does not exist" in errors


def test_version_and_bare_command(cwbench):
    assert cwbench("--version")[1].startswith("cwbench ")
    assert "Commands:" in "".join(cwbench()[1:])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "--defence", "mart"], "--defense"),
        (["study"], "Missing argument 'NAME...' (see cwbench study --help)"),
        (["study", "figure1", "--limit", "x"], "Invalid value for '--limit'"),
        (["study", "figure1", "--limit", "0"], "the study: limit: Input should be greater than or equal to 1, not 0"),
        (["nonsense"], "No such command 'nonsense' (see cwbench --help)"),
        (["plugins", "new", "mine"], "Missing option '--kind'. Choose from: attack, defense, dataset, backbone"),
        (["plugins", "new", "mine", "--kind", "thing"], "'thing' is not one of"),
    ],
)
def test_a_usage_error_is_one_line(cwbench, arguments, told):
    code, printed, errors = cwbench(*arguments)
    assert (code, printed, errors.count("\n")) == (2, "", 1)
    assert errors.startswith("cwbench: ")
    assert told in errors


HELP = (
    "import sys; sys.argv = ['cwbench', {arguments}]\ntry:\n    from cwbench.cli import main; main()\n"
    "finally:\n    heavy = {{'torch', 'torchvision', 'scipy', 'sklearn', 'numpy'}} & set(sys.modules)\n"
    "    assert not heavy, heavy"
)


@pytest.mark.parametrize("arguments", ["'--help'", "'run', '--help'", "'report', '--help'", "'--version'"])
def test_help_loads_nothing_heavy(arguments):
    subprocess.run([sys.executable, "-c", HELP.format(arguments=arguments)], check=True, capture_output=True)


def test_reading_reports_does_not_load_torch(report_file):
    code = HELP.format(arguments=f"'report', 'show', {str(report_file)!r}").replace(
        "'scipy', 'sklearn', 'numpy'", "'sklearn'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_progress_goes_to_a_terminal_alone(tmp_path):
    """Under a pseudo-terminal stderr shows a bar; into a pipe it shows nothing."""
    import pty

    command = [
        sys.executable,
        "-m",
        "cwbench",
        "run",
        "--defense",
        "standard",
        "--attack",
        "pgd",
        "--seed",
        "77",
        *QUICK,
    ]
    parent, child = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=child)
    os.close(child)
    shown = b""
    while True:
        try:
            part = os.read(parent, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"training standard" in shown
    assert b"attacking with pgd" in shown
    assert b"training" not in printed
    piped = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    assert piped.stderr == b""


@pytest.mark.parametrize(
    ("plugin", "code", "told"),
    [
        ("pgd:steps=3,restarts=2", 0, "attack pgd, from cwbench: keeps the contract"),
        ("timm:resnet18", 0, "backbone timm, from cwbench: keeps the contract"),
        ("timm", 2, "it cannot be checked by its name alone (check it as timm:model=VALUE)"),
        ("timm:nobodys", 2, "timm has no model 'nobodys'"),
        ("pgd:stepz=3", 2, "attack pgd has no field 'stepz' (did you mean steps"),
        ("pgd:steps", 2, "is not field=value"),
        ("folder:path=nowhere", 2, "not checked whole: there is no folder nowhere"),
        ("cwbench:steps=3", 2, "cwbench is a distribution and has no fields"),
        ("nobody", 2, "no plugin is named 'nobody'"),
    ],
)
def test_a_plugin_is_checked_with_the_fields_that_it_is_given(cwbench, plugin, code, told):
    found, printed, errors = cwbench("plugins", "check", plugin)
    assert (found, errors.count("\n")) == (code, 1 if code else 0)
    assert told in (errors if code else printed)


class Elsewhere(Digits):
    """A dataset whose data are on another machine."""

    name = "elsewhere"

    def load(self, split, root):
        raise CwbenchError("elsewhere is not here", "fetch it")


class Doubled(Elsewhere):
    name = "doubled"
    classes = ("a",) * 10


class Stillborn(Digits):
    name = "stillborn"

    def model_post_init(self, context):
        raise ZeroDivisionError("no idea")


def test_a_dataset_without_its_data_is_held_to_the_rules_that_need_none():
    found = check_offer(Offer("dataset", Elsewhere, HERE), {}, None)
    assert (found.broken, str(found.unchecked)) == (None, "elsewhere is not here (fetch it)")
    found = check_offer(Offer("dataset", Doubled, HERE), {}, None)
    assert found.broken.startswith("doubled: ")
    assert found.unchecked is None


def test_a_plugin_that_cannot_be_made_is_told_with_the_place():
    found = check_offer(Offer("dataset", Stillborn, HERE), {}, None)
    assert found.broken.startswith("stillborn: it raised ZeroDivisionError: no idea (test_cli.py:")


def test_every_command_of_the_list_is_there_and_tells_what_the_list_says(cwbench):
    _, listed, _ = cwbench("--help")
    for name, (_, summary) in COMMANDS.items():
        code, own, _ = cwbench(name, "--help")
        assert code == 0
        assert summary in " ".join(own.split())
        assert f"  {name} " in listed


def test_options_have_real_types_and_the_same_name_and_form_everywhere(cwbench):
    """What run and study share is the same option: its name, its type, and that several values are given one by one."""

    def options(command: str) -> dict[str, str]:
        _, shown, _ = cwbench(command, "--help")
        return dict(re.findall(r"^  (--[a-z-]+) ([^ \n]+)", shown, re.MULTILINE))

    run, study = options("run"), options("study")
    assert run["--limit"] == run["--seed"] == "INTEGER"
    assert run["--batch-size"] == "INTEGER|auto"
    assert run["--precision"] == "[auto|fp32|bf16]"
    shared = {name for name in run if name in study} - {"--out"}
    assert {"--defense", "--attack", "--dataset", "--seed", "--limit", "--device", "--set", "--data"} <= shared
    assert {name: run[name] for name in shared} == {name: study[name] for name in shared}

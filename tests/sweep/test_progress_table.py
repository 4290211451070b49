"""What a sweep shows while it runs and at its end."""

import io

from rich.console import Console

from cwbench.spec import RunSpec
from cwbench.sweep.cost import Line
from cwbench.sweep.count_passes import Passes
from cwbench.sweep.engine import Item
from cwbench.sweep.outcome import Done, Failed
from cwbench.sweep.progress_table import cost_table, summary, view
from cwbench.sweep.schedule import Schedule, Task

SPEC = RunSpec(defense="madry", attacks="fgsm")
ITEMS = [
    Item("madry × fgsm", SPEC, outcome=Done(2.34, 0.812, 0.5)),
    Item("mart × fgsm", SPEC, outcome=Done(0.0, 0.7, 0.25)),
    Item("rst × fgsm", SPEC, outcome=Failed("no data\x1b[31m")),
    Item("trades × fgsm", SPEC),
]


def shown(rows):
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(rows)
    return console.export_text()


def test_the_live_table_shows_what_is_done_what_runs_and_what_is_to_come():
    running = {"x": Task("x", "train trades on digits, seed 0", lambda: Done(1.0))}
    text = shown(view(ITEMS, Schedule({}, running), 12.6))
    assert "2 of 4 cells done, 1 failed, 1 to come; 13 s" in text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "madry × fgsm done in 2.3 s 81.2 50.0" in lines
    assert "mart × fgsm finished before 70.0 25.0" in lines
    assert "train trades on digits, seed 0 running" in lines


def test_the_summary_ends_with_failures_and_their_reasons():
    lines = summary(ITEMS).splitlines()
    assert lines[-2] == "failed: rst × fgsm: no data\ufffd[31m"
    assert lines[-1] == "2 of 4 cells are finished, 1 failed"


def test_a_plan_adds_up():
    lines = [
        Line("train madry on digits", 2, Passes(3e6, 2e6, 1e6), 5400.0),
        Line("pgd on digits", 4, Passes(1e6), 1800),
    ]
    text = cost_table(lines, "cuda", 4)
    assert "2 GPU-hours at most, as measured on this machine; 0.5 hours with 4 at a time" in text
    assert text.splitlines()[2].split()[-4:] == ["3", "2", "1", "1.5"]

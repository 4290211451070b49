"""What sweeps leave behind, to compare."""

from cwbench.report.predictions import read_predictions
from cwbench.report.report import read_report


def results(folder):
    """Return of every finished cell what does not depend on when and how fast it was done."""
    found = {}
    for path in sorted(folder.glob("*/report.json")):
        report = read_report(path)
        content = report.model_dump(mode="json", exclude={"digest": True, "provenance": {"created"}})
        for attack in content["attacks"]:
            del attack["cost"]["seconds"]
        columns = read_predictions(report, path.parent)
        found[path.parent.name] = content, {name: column.tolist() for name, column in columns.items()}
    return found


def written(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}

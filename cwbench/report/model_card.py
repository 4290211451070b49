"""The model card of a published checkpoint: metadata that the hub reads, and the class-wise table."""

from huggingface_hub import EvalResult, ModelCardData

from cwbench.internal.text import plain
from cwbench.report.records import Figures
from cwbench.report.report import Report
from cwbench.report.tables import report_table


def card(report: Report, repo: str) -> str:
    """Return the card of a checkpoint that a report is of."""
    dataset, threat = report.dataset, f"{report.threat.norm} eps {report.threat.eps}"
    metadata = ModelCardData(
        model_name=f"{report.subject} on {dataset.name}",
        library_name="cwbench",
        pipeline_tag="image-classification",
        tags=["cwbench", "adversarial-robustness", "class-wise", report.defense.name if report.defense else "unknown"],
        datasets=[dataset.name],
        eval_results=_results(report),
        ignore_metadata_errors=False,
    )
    training = report.training
    lines = [
        "---",
        metadata.to_yaml(),
        "---",
        "",
        f"# {plain(report.subject, 'markdown')} on {plain(dataset.name, 'markdown')}",
        "",
        f"An image classifier whose robustness was measured class by class with cwbench, under {threat}.",
        "",
        "```",
        f"cwbench run --checkpoint hf://{repo} --attack {report.attacks[-1].label if report.attacks else 'pgd'}",
        "```",
        "",
        report_table(report, "markdown"),
        "",
    ]
    if training:
        recipe = f"{training.recipe_name} recipe, {training.selection}, seed {report.provenance.seed}"
        lines += [f"Training: {plain(recipe, 'markdown')}.", ""]
        if training.data:
            lines += [f"Training data: {plain(training.data.description, 'markdown')}.", ""]
        lines += [f"cwbench's digest of everything that determined the weights: `{training.checkpoint}`.", ""]
    lines += ["`report.json` holds the counts behind every figure; a load checks the clean accuracy in `config.json`."]
    return "\n".join(lines) + "\n"


def _results(report: Report) -> list[EvalResult]:
    conditions: list[tuple[str, str, Figures]] = [("accuracy", "clean accuracy", report.clean.figures)]
    conditions += [
        (f"robust_accuracy_{attack.attack.name}", f"accuracy under {attack.label}", attack.figures)
        for attack in report.attacks
    ]
    results = []
    for kind, name, figures in conditions:
        values = [(kind, name, figures.overall.accuracy)]
        if figures.worst_class:
            worst = figures.worst_class
            values.append((f"worst_class_{kind}", f"{name} of the worst class, {worst.name}", worst.accuracy))
        results += [
            EvalResult(
                task_type="image-classification",
                dataset_type=report.dataset.name,
                dataset_name=f"{report.dataset.name} (test)",
                dataset_split="test",
                metric_type=metric,
                metric_name=label,
                metric_value=round(value, 6),
            )
            for metric, label, value in values
            if value is not None
        ]
    return results

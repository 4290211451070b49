"""What the study itself found, where its numbers are at hand: shown beside ours, and compared with nothing by machine.

Figures are those of the study's tables 3 and 4 and of its figure 7, as facts, with the dataset that they are of.
"""

from cwbench.internal.validation import Closed

CIFAR10 = "CIFAR-10"


class PublishedTable(Closed):
    """Some figures of the study."""

    of: str
    """Where they stand, and on which data."""
    rows: list[list[str]]
    """The first row holds the headings."""


_CLASSES = [str(index) for index in range(10)]
PUBLISHED: dict[str, tuple[PublishedTable, ...]] = {
    "table3": (
        PublishedTable(
            of=f"The study, table 3, {CIFAR10}: Temperature-PGD-20 minus PGD-20, points",
            rows=[
                ["defense", "1/T", "overall (to %)", *_CLASSES],
                [
                    "mart",
                    "5",
                    "−3.9 (54.4)",
                    *["−1.8", "−0.9", "−3.6", "−9.1", "−10.2", "−2.0", "−4.5", "−1.4", "−3.5", "−2.2"],
                ],
                [
                    "rst",
                    "5",
                    "−2.0 (60.9)",
                    *["−1.0", "−0.6", "−2.2", "−2.1", "−4.2", "−1.5", "−5.1", "−1.1", "−1.2", "−0.8"],
                ],
            ],
        ),
    ),
    "table4": (
        PublishedTable(
            of=f"The study, appendix F, {CIFAR10}: Temperature-PGD-20 minus PGD-20, points",
            rows=[["defense", "1/T", "overall", "class 4"], ["madry", "2", "−0.26", "−2.8"]],
        ),
    ),
    "figure7": (
        PublishedTable(
            of="The study, figure 7: largest gap between two classes, points",
            rows=[
                ["dataset", "standard training, clean", "adversarial training, under attack"],
                [CIFAR10, "10.7", "52.8"],
                ["SVHN", "5.4", "37.0"],
            ],
        ),
    ),
}
"""By the name of the piece."""

"""How far the lowest accuracy of several classes lies from the lowest true one, as measured and corrected.

    python -m benchmarks.worst_class_bias

Bias and root mean square error in points, over draws from class accuracies that are known.
"""

import numpy as np
from tabulate import tabulate

from cwbench.report.worst_class import combined, corrected_minimum

SIZES = [(10, 90), (10, 1000), (100, 100), (1000, 50)]


def main() -> None:
    """Draw, correct and print a table."""
    rng = np.random.default_rng(0)
    rows = []
    for k, n in SIZES:
        truths = {
            "all 60 %": np.full(k, 0.6),
            "50 to 90 %": np.linspace(0.5, 0.9, k),
            "one at 30, rest 60 to 90 %": np.r_[0.3, np.linspace(0.6, 0.9, k - 1)],
            "beta(8, 5)": rng.beta(8, 5, k),
        }
        for name, truth in truths.items():
            counts = rng.binomial(n, truth, size=(1000 if k < 1000 else 100, k))
            raw = counts.min(axis=1) / n
            corrected = np.array([corrected_minimum([combined([int(c)], n) for c in row]) for row in counts])
            cells = []
            for found in (raw, corrected):
                error = 100 * (found - truth.min())
                cells += [f"{error.mean():+.1f}", f"{np.sqrt((error**2).mean()):.1f}"]
            rows.append([k, n, name, *cells])
    headers = ["classes", "n each", "true accuracies", "bias", "RMSE", "bias, corrected", "RMSE, corrected"]
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()

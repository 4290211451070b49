"""Shared fixtures: a cache of the test run's own, and a network small enough to train in a test."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from torch import Tensor, nn

settings.register_profile("cwbench", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.load_profile("cwbench")

GIVEN_DATA = os.environ.get("CWBENCH_DATA")  # read before the tests are kept away from it


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Keep the tests away from the user's cache and data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CWBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("CWBENCH_DATA", raising=False)
        patch.delenv("CWBENCH_PLUGINS", raising=False)
        yield


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """The folder with real MNIST; the test is skipped without it."""
    return _given("MNIST/raw", "real MNIST").parents[1]


@pytest.fixture(scope="session")
def photographs() -> Path:
    """A folder of real photographs in ten classes; the test is skipped without it."""
    return _given("cifar10-jpeg", "real photographs")


def _given(folder: str, what: str) -> Path:
    """Return a folder below CWBENCH_DATA, or below shared/data beside the checkout."""
    root = Path(GIVEN_DATA) if GIVEN_DATA else Path(__file__).parents[2] / "shared" / "data"
    if not (root / folder).is_dir():
        pytest.skip(f"no {what} here: point CWBENCH_DATA at the folder above {folder}")
    return root / folder


class Tiny(nn.Module):
    """A small convolutional classifier of 3×6×6 images into four classes."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(72, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@pytest.fixture
def images() -> Tensor:
    """Twenty images of 3×6×6."""
    return torch.rand(20, 3, 6, 6, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def tiny(images: Tensor) -> Tiny:
    """A network whose classes meet in the middle of the images, so that attacks on them succeed and fail."""
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(1)
        model = Tiny().eval()
    with torch.no_grad():
        model.layers[-1].weight.mul_(6)
        model.layers[-1].bias.sub_(model(images).mean(0))
    return model


@pytest.fixture(scope="session")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real report, written by a real run: madry on 40 digits after two epochs."""
    return _run_to_report("madry", tmp_path_factory.mktemp("madry"))


@pytest.fixture(scope="session")
def other_report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of another defense on the same examples."""
    return _run_to_report("standard", tmp_path_factory.mktemp("standard"))


def _run_to_report(defense: str, out: Path) -> Path:
    import cwbench

    cwbench.run(
        defense,
        ["pgd", "pgd:restarts=2,steps=3"],
        limit=40,
        set={"recipe.epochs": 6, "recipe.eps_warmup": 0.3},
        precision="fp32",  # which one is faster is measured, and may come out otherwise the next time
        out=out,
    )
    (path,) = out.glob("*/report.json")
    return path


@pytest.fixture(scope="module")
def browser():
    """A real chromium; what needs it is skipped where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install -e '.[dev]' brings playwright")
    installed = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if installed is None:
        pytest.skip("no chromium here: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        # The sandbox needs privileges that a container lacks; the page is our own.
        chromium = playwright.chromium.launch(executable_path=installed, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser):
    """Return a function that opens a page; at the end it must have asked for nothing else and complained of nothing."""
    contexts, complaints = [], []

    def go(url, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.on(
            "request",
            lambda asked: complaints.append(asked.url) if asked.url.split("#")[0] != url.split("#")[0] else None,
        )
        page.goto(url)
        return page

    yield go
    for context in contexts:
        context.close()
    assert complaints == []

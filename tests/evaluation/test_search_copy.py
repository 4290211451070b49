"""The copy that attacks search on: the same function, or not used."""

import pytest
import torch
from torch import fx, nn

from cwbench.api import Linf, evaluating, frozen
from cwbench.evaluation import search_copy as preparation
from cwbench.evaluation.search_copy import fold, make_search_copy
from cwbench.internal.errors import CwbenchError

X = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(12) % 4


def normalised(*middle):
    """A convolution with batch norm whose statistics are not the identity."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        norm = nn.BatchNorm2d(6)
        model = nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), norm, nn.ReLU(), *middle, nn.Flatten(), nn.Linear(216, 4))
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        norm.weight.data.uniform_(0.5, 2)
    return model.eval().requires_grad_(False)


def prepared(model, precision="fp32"):
    with evaluating(model), frozen(model):
        return make_search_copy(model, X, Y, Linf(eps="8/255"), precision)


def test_convolution_and_norm_become_one_layer_that_computes_the_same():
    model = normalised()
    found = prepared(model)
    assert found.folded == 1
    assert not any(isinstance(module, nn.BatchNorm2d) for module in found.model.modules())
    assert torch.allclose(found.model(X), model(X), atol=1e-5)
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules()), "the model itself is left alone"


class Branching(nn.Module):
    """Its way through depends on the image, so that no trace is the model."""

    def __init__(self):
        super().__init__()
        self.inner = normalised()

    def forward(self, x):
        return self.inner(x) if x.mean() > 0 else -self.inner(x)


def test_what_cannot_be_traced_is_searched_as_it_is():
    model = Branching()
    search, folded = fold(model, X)
    assert folded == 0
    assert torch.allclose(search(X), model(X), atol=1e-5)
    assert torch.allclose(search(-X), model(-X), atol=1e-5)


@pytest.mark.parametrize("elsewhere", [lambda x: isinstance(x, fx.Proxy), lambda x: torch.is_grad_enabled()])
def test_a_trace_that_computes_something_else_is_not_used(elsewhere):
    """What Python decides while it is traced, a trace repeats for ever."""

    class Deciding(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = normalised()

        def forward(self, x):
            return self.inner(x) * (2 if elsewhere(x) else 1)

    model = Deciding().eval().requires_grad_(requires_grad=False)
    search, folded = fold(model, X)
    assert folded == 0
    with torch.no_grad():
        assert torch.allclose(search(X), model(X), atol=1e-5)


def test_an_uncopyable_model_is_searched_as_it_is():
    class Stubborn(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = normalised()

        def __deepcopy__(self, memo):
            raise RuntimeError("no copies")

        def forward(self, x):
            return self.inner(x)

    model = Stubborn()
    search, folded = fold(model, X)
    assert folded in {0, 1}
    assert torch.allclose(search(X), model(X), atol=1e-5)


def test_a_function_is_searched_as_it_is():
    def model(x):
        return x.flatten(1)[:, :4]

    assert prepared(model).model is model


def test_bf16_returns_float32_logits_near_the_models():
    model = normalised()
    found = prepared(model, "bf16")
    assert found.precision == "bf16"
    assert torch.allclose(found.model(X), model(X), atol=1e-5), "a query is not rounded"
    logits = found.model(X.clone().requires_grad_())
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, model(X))
    assert torch.allclose(logits, model(X), atol=0.1)


def test_auto_takes_bf16_only_where_it_is_faster_and_as_strong(monkeypatch):
    model = normalised()
    assert prepared(model, "auto").precision == "fp32", "too small to gain"
    monkeypatch.setattr(preparation, "_faster", lambda *given: True)
    assert prepared(model, "auto").precision == "bf16"
    monkeypatch.setattr(preparation, "_as_strong", lambda *given: False)
    assert prepared(model, "auto").precision == "fp32"


def test_a_model_that_bf16_weakens_is_searched_in_fp32(monkeypatch):
    """Around 1,000 bfloat16 counts in fours: what is cubed is 0, and so is its gradient."""
    monkeypatch.setattr(preparation, "_faster", lambda *given: True)

    class Large(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(192, 4)
            with torch.no_grad():
                self.layer.bias.add_(1000)

        def forward(self, x):
            return (self.layer(x.flatten(1)) - 1000) ** 3

    model = Large()
    labels = model(X).argmax(1)
    with evaluating(model), frozen(model):
        assert make_search_copy(model, X, labels, Linf(eps="0.5"), "auto").precision == "fp32"


def test_queries_are_not_rounded_whatever_the_precision():
    """Logits around 30, where bfloat16 counts in eighths: a random search would see ties alone."""
    import cwbench

    weights = torch.randn(192, 4, generator=torch.Generator().manual_seed(0))

    def model(x):
        return (x - 0.5).flatten(1) @ weights + 30

    x = torch.rand(60, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    rough, exact = (
        cwbench.evaluate(model, "square:queries=100", (x, model(x).argmax(1)), eps="0.03", precision=precision)
        for precision in ("bf16", "fp32")
    )
    assert rough.confusion("square") == exact.confusion("square")


def test_what_is_not_finite_in_bf16_is_refused_on_request():
    def model(x):
        logits = x.flatten(1)[:, :4]
        return logits / 0 if torch.is_autocast_enabled("cpu") else logits

    with pytest.raises(CwbenchError, match="not finite in bf16"):
        prepared(model, "bf16")
    assert prepared(model, "auto").precision == "fp32"

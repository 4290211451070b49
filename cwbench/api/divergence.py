"""The Kullback–Leibler divergence of two rows of probabilities."""

from torch import Tensor


def summed_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return Σ_k p_k log(p_k / q_k) for each row, shape (N,), from log-probabilities (N, K).

    Written with logarithms throughout: a probability that underflows to 0 has no finite gradient of p log p.
    """
    return (log_p.exp() * (log_p - log_q)).sum(1)

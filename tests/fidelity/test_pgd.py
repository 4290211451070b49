"""PGD beside the tools of others, on networks trained here: per class it agrees, and ours is never weaker.

``pip install -e '.[dev,peers]'`` brings the peers; without them these tests are skipped by name. Per class the peer
must lie within our interval; overall ours may leave at most half a point more standing than the peer.
"""

import pytest

from cwbench.api import frozen

from .subject import needs, seeded

pytestmark = pytest.mark.filterwarnings("ignore")  # the peers', not ours


def beside_torchattacks(network, more=""):
    import torchattacks

    alpha = network.eps / 4
    attack = torchattacks.PGD(network.model, eps=network.eps, alpha=alpha, steps=20)
    theirs = []
    for seed in range(network.pgd_seeds):
        with frozen(network.model), seeded(seed):
            theirs.append(network.stands(attack(network.x, network.y)))
    network.compare(f"pgd:steps=20,step_size={alpha}{more}", theirs)


@needs("torchattacks")
def test_pgd_beside_torchattacks(network):
    beside_torchattacks(network)


@needs("torchattacks")
def test_pgd_without_early_stopping_beside_torchattacks(digits):
    beside_torchattacks(digits, ",early_stop=false")


@needs("foolbox")
def test_pgd_beside_foolbox(network):
    import foolbox

    model = foolbox.PyTorchModel(network.model, bounds=(0, 1), device="cpu")
    alpha = network.eps / 4
    attack = foolbox.attacks.LinfPGD(abs_stepsize=alpha, steps=20)
    theirs = []
    for seed in range(network.pgd_seeds):
        with seeded(seed):
            theirs.append(network.stands(attack(model, network.x, network.y, epsilons=network.eps)[1]))
    network.compare(f"pgd:steps=20,step_size={alpha}", theirs)

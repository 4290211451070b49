import torch

from cwbench.datasets import splits
from cwbench.datasets.digits import Digits


def test_the_halves_are_scikit_learns_in_order():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    train, test = (splits.open_split(Digits(), split, None) for split in ("train", "test"))
    assert (len(train), len(test)) == (898, 899)
    assert torch.cat([train.labels, test.labels]).tolist() == labels.tolist()
    assert torch.equal(test.images(torch.tensor([898])).flatten() * 16, torch.tensor(images[-1]).float())

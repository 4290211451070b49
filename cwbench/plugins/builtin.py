"""The built-in plugins, registered through the same entry point and hooks as anybody's."""

from cwbench.api import Attack, Backbone, Dataset, Defense, hookimpl
from cwbench.attacks.apgd_ce import APGDCE
from cwbench.attacks.apgd_t import APGDT
from cwbench.attacks.autoattack import AutoAttack
from cwbench.attacks.cw import CW
from cwbench.attacks.cw_pgd import CWPGD
from cwbench.attacks.fab_t import FABT
from cwbench.attacks.fgsm import FGSM
from cwbench.attacks.nattack import NAttack
from cwbench.attacks.pgd import PGD
from cwbench.attacks.square import Square
from cwbench.attacks.tpgd import TemperaturePGD
from cwbench.attacks.transfer import Transfer
from cwbench.backbones.digits_cnn import DigitsCNN
from cwbench.backbones.mnist_cnn import MnistCNN
from cwbench.backbones.resnet18 import ResNet18
from cwbench.backbones.resnet50 import ResNet50
from cwbench.backbones.timm_model import Timm
from cwbench.backbones.torchvision_model import Torchvision
from cwbench.backbones.wide_resnet import WRN28x10, WRN32x10, WRN34x10
from cwbench.datasets.cifar10 import CIFAR10
from cwbench.datasets.cifar100 import CIFAR100
from cwbench.datasets.digits import Digits
from cwbench.datasets.folder import Folder
from cwbench.datasets.imagenet import ImageNet
from cwbench.datasets.mnist import MNIST
from cwbench.datasets.stl10 import STL10
from cwbench.datasets.svhn import SVHN
from cwbench.defenses.fast import Fast
from cwbench.defenses.he import HE
from cwbench.defenses.he_cmp import HECMP
from cwbench.defenses.he_lis import HELIS
from cwbench.defenses.madry import Madry
from cwbench.defenses.mart import MART
from cwbench.defenses.rst import RST
from cwbench.defenses.standard import Standard
from cwbench.defenses.trades import TRADES


@hookimpl
def cwbench_attacks() -> list[type[Attack]]:
    return [FGSM, PGD, TemperaturePGD, CWPGD, CW, APGDCE, APGDT, FABT, Square, AutoAttack, NAttack, Transfer]


@hookimpl
def cwbench_defenses() -> list[type[Defense]]:
    return [Standard, Madry, TRADES, MART, RST, HE, HELIS, HECMP, Fast]


@hookimpl
def cwbench_datasets() -> list[type[Dataset]]:
    return [Digits, MNIST, CIFAR10, CIFAR100, SVHN, STL10, ImageNet, Folder]


@hookimpl
def cwbench_backbones() -> list[type[Backbone]]:
    return [DigitsCNN, MnistCNN, ResNet18, WRN28x10, WRN32x10, WRN34x10, ResNet50, Torchvision, Timm]

"""The contract checks of plugins, under their public name: call :func:`check` in a test of your own.

from cwbench.testing import check
from my_plugin import MyAttack

def test_contract():
    check(MyAttack())
"""

from cwbench.plugins.contract.check import check
from cwbench.plugins.contract.contract import ContractError

__all__ = ["ContractError", "check"]

"""The device to compute on, and the precisions that it computes fast."""

import pytest
import torch

from ust.util.device import check_precision
from ust.util.errors import UserError

CPU = torch.device("cpu")


def set_capabilities(monkeypatch, **capabilities):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, **capabilities})


def test_bfloat16_is_refused_on_a_cpu_without_its_instructions(monkeypatch):
    set_capabilities(monkeypatch, avx512_bf16=False, amx_bf16=False)
    with pytest.raises(UserError, match=r"train\.precision is 'bfloat16'.* set it to 'float32'"):
        check_precision("bfloat16", CPU, "train.precision")
    check_precision("float32", CPU, "train.precision")
    check_precision("bfloat16", torch.device("cuda"), "train.precision")


def test_bfloat16_is_accepted_on_a_cpu_with_its_instructions(monkeypatch):
    set_capabilities(monkeypatch, avx512_bf16=True)
    check_precision("bfloat16", CPU, "train.precision")

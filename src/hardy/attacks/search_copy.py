"""The copy of a classifier that attacks search with: as fast as it gets, and answering as the classifier does.

Batch norm is folded into the convolutions, weights are frozen, memory is laid out channels-last, some layers take a
faster form and, on request, all arithmetic but the last layer's is bfloat16. Nothing that such a copy answers is a
verdict: the engine asks the classifier itself.
"""

from __future__ import annotations

import copy
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from hardy.attacks.search_layers import put_search_layers
from hardy.threats import ThreatModel
from hardy.validation import Images, Logits

# Folding reorders float32 sums; what differs by more was not folded rightly.
_FOLDING_TOLERANCE = 1e-3
_LARGEST_LEAD = 15.0
# Values in [0, 1] are up to 2**-8 apart in bfloat16; a change must be many times that to be found in it.
_FINEST_CHANGE = 8 * 2.0**-8


@dataclass
class Count:
    """How many images were classified (``queries``), and for how many of them a gradient was taken."""

    queries: int = 0
    gradients: int = 0


class SearchCopy:
    """Classifies as its original does, counts, and answers in float32 with logits that do not saturate the softmax.

    Beyond a lead of some 17 the largest probability rounds to 1 in float32 and cross-entropy loses its gradient: a
    classifier whose logits are merely large would look robust. So logits with a large lead are scaled down, example by
    example, by a factor that counts as constant; no prediction changes under a positive factor.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype, layout: torch.memory_format, count: Count) -> None:
        self._model = model
        self._dtype = dtype
        self._layout = layout
        self._count = count

    def __call__(self, images: Images) -> Logits:
        self._count.queries += len(images)
        if torch.is_grad_enabled() and images.requires_grad:
            self._count.gradients += len(images)
        logits = self._model(images.to(self._dtype).contiguous(memory_format=self._layout)).float()
        best = logits.detach().topk(2, dim=1).values
        lead = best[:, :1] - best[:, 1:]
        return logits * (_LARGEST_LEAD / lead.clamp_min(_LARGEST_LEAD))


def fastest_copy(classifier: nn.Module, probe: Images, dtype: torch.dtype, count: Count) -> SearchCopy | None:
    """The fastest copy that answers as the classifier does, frozen and in evaluation mode.

    Batch norm is folded where the network can be traced; channels-last is used where the network works in it.

    Args:
        classifier: in evaluation mode; left as it is.
        probe: float32 (N, C, H, W), at least one image, to compare the answers on.
        dtype: float32 or bfloat16.
        count: where queries and gradients are counted.

    Returns:
        None where no copy does: the network does not work in ``dtype``, say.
    """
    tolerance = _FOLDING_TOLERANCE if dtype == torch.float32 else torch.inf
    with torch.no_grad():
        wanted = classifier(probe).float()
    plain = copy.deepcopy(classifier).eval().requires_grad_(False)
    for make in (_fused, copy.deepcopy):
        for layout in (torch.channels_last, torch.contiguous_format):
            # Foreign networks fail to be traced, to run in bfloat16 or in channels-last for reasons of their own.
            with suppress(Exception), torch.no_grad():
                model = make(plain).to(dtype, memory_format=layout)  # type: ignore[call-overload]
                if isinstance(model, fx.GraphModule):
                    put_search_layers(model, dtype)
                found = model(probe.to(dtype).contiguous(memory_format=layout)).float()
                if found.isfinite().all() and (found - wanted).abs().max() <= tolerance * wanted.abs().max().clamp_min(
                    1
                ):
                    return SearchCopy(model, dtype, layout, count)
    return None


def bf16_tells_apart(threat: ThreatModel, values: int) -> bool:
    """Whether a search in bfloat16 can move inside the ball of a threat model, around images of so many values.

    In linf and l2 the change of a value counts where all change alike; in l1 and l0 few values change, by much.
    """
    match threat.norm:
        case "linf":
            return threat.eps >= _FINEST_CHANGE
        case "l2":
            return threat.eps >= _FINEST_CHANGE * values**0.5
        case _:
            return True


_FUSIONS = {
    (nn.Conv2d, nn.BatchNorm2d): fuse_conv_bn_eval,
    (nn.Linear, nn.BatchNorm1d): fuse_linear_bn_eval,
}


def _fused(model: nn.Module) -> nn.Module:
    """A traced copy, in which batch norm right after a convolution or a linear layer is part of that layer."""
    traced = fx.symbolic_trace(model)
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        layer, norm = modules[str(before.target)], modules[str(node.target)]
        fusion = _FUSIONS.get((type(layer), type(norm)))  # type: ignore[arg-type]
        if fusion is None:
            continue
        traced.set_submodule(str(before.target), fusion(layer, norm))  # type: ignore[arg-type]
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced.eval().requires_grad_(False)

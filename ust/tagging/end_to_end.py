"""A trained system with its front ends as one PyTorch module of plain operations, to be exported."""

import torch
from torch import nn

from ust.files.errors import UserError
from ust.tagging.front_ends import FRONT_ENDS
from ust.tagging.tagger import Tagger


class EndToEnd(nn.Module):
    """What a tagger does, as one module: clips (batch, samples) to probabilities (batch, labels).

    Those features that are quantised follow, by the name of the feature.

    Raises
    ------
    UserError
        If the system takes a feature that has no such module.
    """

    def __init__(self, tagger: Tagger) -> None:
        super().__init__()
        for front_end in tagger.front_ends.values():
            if front_end.name not in FRONT_ENDS:
                raise UserError(
                    f"the feature {front_end.name} cannot be exported; {', '.join(FRONT_ENDS)} can"
                )
        self.system = tagger.system
        self.front_ends = nn.ModuleDict(
            {
                name: FRONT_ENDS[each.name](each.folder, each.computed)
                for name, each in tagger.front_ends.items()
            }
        )
        self.shown = [name for name, each in tagger.front_ends.items() if each.dtype == "uint8"]
        self.eval()

    def forward(self, waveform: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features = {name: module(waveform) for name, module in self.front_ends.items()}
        silent = (waveform == 0).all(dim=1, keepdim=True)
        probabilities = torch.where(silent, 0.0, self.system(**features))
        return probabilities, *(features[name] for name in self.shown)

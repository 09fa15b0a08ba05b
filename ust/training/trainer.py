"""One network trained epoch by epoch, whatever decides its learning rate and when to stop."""

from typing import Protocol

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ust.console import progress
from ust.device import seed_torch
from ust.errors import UserError
from ust.examples import Examples, batch_bounds
from ust.seeding import generator
from ust.training.state import TrainingState

OPTIMIZERS = {"adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop}


class Recipe(Protocol):
    """What every recipe has, named as in params.yaml."""

    seed: int
    lr: float
    batch_size: int
    optimizer: str
    pos_weight_power: float
    precision: str


def positive_weights(targets: np.ndarray, power: float) -> np.ndarray:
    """(negatives / positives) to a power for each label; 1 for a label without either.

    Parameters
    ----------
    targets : numpy.ndarray [shape=(n, labels)]
        0, 1, or a share between: a soft label counts as that share of a positive.
    """
    positive = targets.sum(axis=0, dtype=np.float64)
    negative = len(targets) - positive
    both = (positive > 0) & (negative > 0)
    ratio = np.divide(negative, positive, out=np.ones_like(positive), where=both)
    return ratio**power


class Trainer:
    """A network, its optimiser and its examples.

    Parameters
    ----------
    network : torch.nn.Module
        On `device`; takes log-mels and embeddings, gives logits of the targets.
    examples : Examples
    recipe : Recipe
    device : torch.device
    name : str
        Of the network among those of a system: each shuffles and drops out by draws of its own.
    """

    def __init__(
        self, network: nn.Module, examples: Examples, recipe: Recipe, *, device: torch.device, name: str
    ) -> None:
        self.network, self.examples, self.recipe = network, examples, recipe
        self.device, self.name = device, name
        self._shuffle = generator(recipe.seed, "shuffle", name)
        seed_torch(recipe.seed, "dropout", name)
        weights = positive_weights(examples.targets, recipe.pos_weight_power)
        self._pos_weight = torch.from_numpy(weights).float().to(device)
        self.restart(recipe.lr)

    def restart(self, lr: float) -> None:
        """Go on with a fresh optimiser."""
        options = {"fused": True} if self.recipe.optimizer == "adam" else {}
        self.optimizer = OPTIMIZERS[self.recipe.optimizer](self.network.parameters(), lr=lr, **options)

    def epoch(self, number: int) -> float:
        """Train once on every example; the mean loss.

        Raises
        ------
        UserError
            If the loss is no longer finite.
        """
        self.network.train()
        total = 0.0
        steps = len(batch_bounds(len(self.examples), self.recipe.batch_size))
        order = self._shuffle.permutation(len(self.examples))
        batches = self.examples.batches(self.recipe.batch_size, order=order, device=self.device)
        for logmel, vggish, targets in progress(
            batches, total=steps, description=f"{self.name} epoch {number}", unit="step"
        ):
            with self._precision():
                logits = self.network(logmel, vggish)
            loss = self._loss(logits, targets)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(targets)
        if not np.isfinite(total):
            raise UserError(
                f"{self.name}: the loss is no longer finite in epoch {number}; a smaller lr may help"
            )
        return total / len(self.examples)

    def loss(self, examples: Examples) -> float:
        """The mean loss on other examples, with the weights as they are."""
        self.network.eval()
        total = 0.0
        with torch.inference_mode():
            for logmel, vggish, targets in examples.batches(2 * self.recipe.batch_size, device=self.device):
                total += self._loss(self.network(logmel, vggish), targets).item() * len(targets)
        return total / len(examples)

    def keep(self, state: TrainingState) -> None:
        """Put all that the next epoch depends on into a state: weights, optimiser and generators."""
        optimizer = self.optimizer.state_dict()
        state.tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        for index, slots in optimizer["state"].items():
            state.tensors |= {f"optimizer.{index}.{slot}": tensor for slot, tensor in slots.items()}
        state.tensors["generator.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            state.tensors["generator.cuda"] = torch.cuda.get_rng_state(self.device)
        state.values["optimizer"] = optimizer["param_groups"]
        state.values["shuffle"] = self._shuffle.bit_generator.state

    @torch.no_grad()
    def restore(self, state: TrainingState) -> None:
        """Go on from what `keep` put into a state."""
        parameters = list(self.network.parameters())
        slots: dict[int, dict[str, torch.Tensor]] = {}
        weights = {}
        for name, tensor in state.tensors.items():
            kind, rest = name.split(".", 1)
            if kind == "network":
                weights[rest] = tensor
            elif kind == "optimizer":
                index, slot = rest.split(".")
                parameter = parameters[int(index)]
                if tensor.shape == parameter.shape:
                    tensor = torch.empty_like(parameter).copy_(tensor)  # in its layout in memory
                slots.setdefault(int(index), {})[slot] = tensor
        self.network.load_state_dict(weights)
        self.optimizer.load_state_dict({"state": slots, "param_groups": state.values["optimizer"]})
        torch.set_rng_state(state.tensors["generator.cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state.tensors["generator.cuda"], self.device)
        self._shuffle.bit_generator.state = state.values["shuffle"]

    def _loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return functional.binary_cross_entropy_with_logits(
            logits.float(), targets, pos_weight=self._pos_weight
        )

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16")

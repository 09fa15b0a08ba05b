"""The model card of an exported system."""

from pathlib import Path
from typing import Any

from ust.files.templates import fill

TEMPLATE = "model_card.md.jinja"


def model_card(*, metrics: dict[str, Any] | None, **content: Any) -> str:
    """The card as Markdown.

    Parameters
    ----------
    metrics : dict or None
        As the stage evaluate writes it; None where the system was not evaluated.
    **content
        What else the template names.
    """

    def figure(level: str, key: str) -> str:
        if metrics is None or key not in metrics.get(level, {}):
            return "–"
        low, high = metrics["ci95"]["clips"][level][key]
        return f"{metrics[level][key]:.3f} [{low:.3f}, {high:.3f}]"

    def constant(level: str) -> str:
        return f"{metrics['prevalence'][level]['micro_auprc']:.3f}" if metrics else "–"

    path = Path(__file__).parent / TEMPLATE
    return fill(path, metrics=metrics, figure=figure, constant=constant, **content)

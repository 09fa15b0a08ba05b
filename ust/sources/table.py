"""The sources of data."""

from ust.sources import classes, folder, sonyc, synthetic
from ust.sources.source import Source

SOURCES: dict[str, Source] = {
    "synthetic": synthetic.SOURCE,
    "local": folder.SOURCE,
    "folder": classes.SOURCE,
    "sonyc-ust-v1": sonyc.V1,
    "sonyc-ust-v2": sonyc.V2,
}

"""The features: what a clip becomes before a network takes it."""

from ust.features import logmel, onnx
from ust.features.feature import Feature
from ust.features.mn import feature as mn
from ust.features.mn import front_end, windows
from ust.features.vggish import feature as vggish

FEATURES: dict[str, Feature] = {
    "logmel": logmel.FEATURE,
    "logmel64": logmel.FEATURE,
    "vggish": vggish.FEATURE,
    "mn": mn.FEATURE,
    "mn_frames": mn.FEATURE,
    "mn_windows": windows.FEATURE,
    "mn_logmel": front_end.FEATURE,
    "onnx": onnx.FEATURE,
}

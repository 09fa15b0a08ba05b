"""The architectures by name, a class each.

A class defines:

- ``inputs``, the names of its inputs;
- ``of_frames``, whether it classifies each frame instead of the clip;
- ``Config``, its settings, which the checkpoint stores to rebuild it;
- ``check``, which raises ValueError for inputs of unsupported shapes.

The constructor takes the settings, the number of labels and the shapes of a clip's inputs.
"""

from torch import nn

from ust.models import challenge, cnn, cnn_mn, frames, heads, mobilenet

ARCHITECTURES: dict[str, type[nn.Module]] = {
    "cnn": cnn.CNN,
    "cnn_vggish": cnn.CNNVGGish,
    "cnn_mn": cnn_mn.CNNEmbedding,
    "frames": frames.FrameClassifier,
    "head": heads.Head,
    "attention": heads.Attention,
    "mobilenet": mobilenet.TaggingMobileNet,
    "cnn9": challenge.CNN9,
    "mobilenetv2": challenge.MobileNetV2,
}

"""The architectures: a class each.

A class has ``inputs``, the names of the features it takes; ``of_frames``, whether it answers for each frame
of them; ``Config``, what of params.yaml rebuilds it; and ``check``, which refuses inputs of other shapes.
It is made of its settings, the number of labels, and the shapes of a clip's inputs.
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

"""What `make bench` times, in order."""

from collections.abc import Callable

from benchmarks.inputs import Bench
from benchmarks.pairs import features, loading, networks, scores
from benchmarks.timing import Pair

PAIRS: dict[str, Callable[[Bench], Pair]] = {
    "resample": features.resample,
    "logmel": features.logmel,
    "vggish_forward": features.vggish_forward,
    "vggish_forward_bfloat16": features.vggish_forward_bfloat16,
    "extraction": features.extraction,
    "loading": loading.loading,
    "loading_disk": loading.loading_disk,
    "strided_convolution": networks.strided_convolution,
    "bilinear_step": networks.bilinear_step,
    "train_step": networks.train_step,
    "train_step_concat": networks.train_step_concat,
    "train_step_concat_bfloat16": networks.train_step_concat_bfloat16,
    "mn": features.mn,
    "evaluation": scores.evaluation,
    "evaluation_official": scores.evaluation_official,
    "bootstrap": scores.bootstrap,
}

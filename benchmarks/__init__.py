"""Timings against what a user would pick instead; `make bench` runs them all."""

# The methods of `benchmarks.pairs.Bench`, in order.
NAMES = (
    "resample", "logmel", "vggish_forward", "vggish_forward_bfloat16", "extraction", "loading",
    "loading_disk", "strided_convolution", "bilinear_step", "train_step", "train_step_concat",
    "train_step_concat_bfloat16", "mn", "evaluation", "evaluation_official", "bootstrap",
)  # fmt: skip

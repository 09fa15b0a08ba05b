"""The official metrics, written as plainly as their definition reads: a loop over thresholds and clips."""

import numpy as np


def coarse_counts_at(truth, predicted, threshold):
    """TP, FP, FN of one coarse tag at one threshold."""
    tp = fp = fn = 0
    for t, p in zip(truth, predicted, strict=True):
        said = p >= threshold
        tp += int(t == 1 and said)
        fp += int(t == 0 and said)
        fn += int(t == 1 and not said)
    return tp, fp, fn


def fine_counts_at(truth, truth_x, predicted, predicted_x, threshold):
    """TP, FP, FN of one category's complete tags and its incomplete one at one threshold."""
    tp = fp = fn = 0
    for t, tx, p, px in zip(truth, truth_x, predicted, predicted_x, strict=True):
        said = [value >= threshold for value in p]
        said_x = px >= threshold
        right = [bool(a == 1 and b) for a, b in zip(t, said, strict=True)]
        has_complete = any(a == 1 for a in t)
        tp += sum(right)
        fp += sum(bool(b and a == 0 and tx == 0) for a, b in zip(t, said, strict=True))
        fn += sum(bool(a == 1 and not b) for a, b in zip(t, said, strict=True))
        if tx == 1 and (any(said) or said_x) and not any(right):
            tp += 1
        if tx == 0 and not has_complete and said_x and not all(said):
            fp += 1
        if tx == 1 and not has_complete and not any(said) and not said_x:
            fn += 1
    return tp, fp, fn


def area(points):
    """Area under (precision, recall) points by trapezoids, after numpy's default sort by recall."""
    precision = np.array([p for p, _ in points])
    recall = np.array([r for _, r in points])
    order = np.argsort(recall)
    xs = [0.0, *recall[order], 1.0]
    ys = [1.0, *precision[order], 0.0]
    return sum((xs[i + 1] - xs[i]) * (ys[i + 1] + ys[i]) / 2 for i in range(len(xs) - 1))


def precision_recall(tp, fp, fn):
    """Precision and recall with the official guard against nothing to divide by."""
    return tp / max(tp + fp, 0.5), tp / max(tp + fn, 0.5)


def thresholds_of(predicted):
    """Descending distinct values of at least 0.01, and 1.0."""
    return sorted({1.0, *(float(v) for v in np.ravel(predicted) if v >= 0.01)}, reverse=True)


def score(truth, predicted, taxonomy, level):
    """micro AUPRC, micro F1, macro AUPRC and the category AUPRCs; arrays as `ust.metrics` takes them."""
    tables = []
    for g in range(len(taxonomy.coarse)):
        table = {}
        if level == "coarse":
            for threshold in thresholds_of(predicted[:, g]):
                table[threshold] = coarse_counts_at(truth[:, g], predicted[:, g], threshold)
        else:
            complete, x = taxonomy.complete(g), taxonomy.incomplete(g)
            zeros = np.zeros(len(truth))
            tx = zeros if x is None else truth[:, x]
            px = zeros if x is None else predicted[:, x]
            for threshold in thresholds_of(predicted[:, complete]):
                table[threshold] = fine_counts_at(
                    truth[:, complete], tx, predicted[:, complete], px, threshold
                )
        tables.append(table)
    categories = [area([precision_recall(*counts) for counts in table.values()]) for table in tables]
    micro = {}
    for threshold in sorted({t for table in tables for t in table}):
        sums = np.zeros(3, int)
        for table in tables:
            sums += table[min(t for t in table if t >= threshold)]
        micro[threshold] = precision_recall(*sums)
    p, r = micro[min(t for t in micro if t >= 0.5)]
    f1 = 2 / (1 / p + 1 / r) if p > 0 and r > 0 else 0.0
    return area(list(micro.values())), f1, float(np.mean(categories)), categories

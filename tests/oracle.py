"""The official metrics as a loop over thresholds."""

import numpy as np


def coarse_counts_at(truth, predicted, threshold):
    """Return TP, FP, FN of one coarse tag [shape=(clips,)] at one threshold."""
    present, detected = truth == 1, predicted >= threshold
    return np.sum(present & detected), np.sum(~present & detected), np.sum(present & ~detected)


def fine_counts_at(truth, truth_x, predicted, predicted_x, threshold):
    """Return TP, FP, FN of a category's complete tags (clips, k) and incomplete tag at one threshold."""
    present, detected = truth == 1, predicted >= threshold
    present_x, detected_x = truth_x == 1, predicted_x >= threshold
    right = present & detected
    has_complete, some_right, all_detected = present.any(axis=1), right.any(axis=1), detected.all(axis=1)
    some_detected = detected.any(axis=1) | detected_x
    tp = np.sum(right) + np.sum(present_x & some_detected & ~some_right)
    fp = np.sum(detected & ~present & ~present_x[:, None]) + np.sum(
        ~present_x & ~has_complete & detected_x & ~all_detected
    )
    fn = np.sum(present & ~detected) + np.sum(present_x & ~has_complete & ~some_detected)
    return tp, fp, fn


def area(points):
    """Return the area under (precision, recall) points by trapezoids, after a stable sort by recall."""
    precision = np.array([p for p, _ in points])
    recall = np.array([r for _, r in points])
    order = np.argsort(recall, kind="stable")
    xs = [0.0, *recall[order], 1.0]
    ys = [1.0, *precision[order], 0.0]
    return sum((xs[i + 1] - xs[i]) * (ys[i + 1] + ys[i]) / 2 for i in range(len(xs) - 1))


def precision_recall(tp, fp, fn):
    """Return precision and recall, 0 where the denominator is 0."""
    return tp / max(tp + fp, 0.5), tp / max(tp + fn, 0.5)


def thresholds_of(predicted):
    """Return the distinct values of at least 0.01, and 1.0, in descending order."""
    return sorted({1.0, *(float(v) for v in np.ravel(predicted) if v >= 0.01)}, reverse=True)


def score(truth, predicted, taxonomy, level):
    """Return micro AUPRC, micro F1, macro AUPRC, category AUPRCs; arrays as in `ust.evaluation.metrics`."""
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
    owns = [np.array(list(table)) for table in tables]
    micro = {}
    for threshold in sorted({t for table in tables for t in table}, reverse=True):
        sums = np.zeros(3, int)
        for table, own in zip(tables, owns, strict=True):
            sums += table[own[own >= threshold].min()]
        micro[threshold] = precision_recall(*sums)
    p, r = micro[min(t for t in micro if t >= 0.5)]
    f1 = 2 / (1 / p + 1 / r) if p > 0 and r > 0 else 0.0
    return area(list(micro.values())), f1, float(np.mean(categories)), categories

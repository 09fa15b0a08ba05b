"""The hierarchy's structure and rule, compared with a loop over clips and groups."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ust.annotations.taxonomy import Taxonomy
from ust.models.outputs import groups_with_classifier
from ust.models.systems import HierarchicalSystem

TAXONOMY = Taxonomy(
    ("1_a", "2_b", "3_c", "4_d"), ("1-1_a", "1-2_a", "2-1_b", "3-1_c", "3-X_c", "4-1_d"), (0, 0, 1, 2, 2, 3)
)


class Scripted(torch.nn.Module):
    """A classifier with given probabilities."""

    def __init__(self, probabilities, labels):
        super().__init__()
        self.answers, self.labels, self.asked = torch.from_numpy(probabilities), list(labels), []

    def forward(self, clip):
        self.asked.append(clip.tolist())
        return self.answers[clip]


def test_structure_follows_from_the_taxonomy(taxonomy):
    assert groups_with_classifier(TAXONOMY) == [0, 2]
    assert TAXONOMY.fine_labels(2) == ["3-1_c", "3-X_c"]
    # The report: six fine models; non-machinery impact and dog have one fine label each.
    assert groups_with_classifier(taxonomy) == [0, 1, 3, 4, 5, 6]


@settings(deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9]), min_size=4, max_size=4), min_size=1, max_size=9
    ),
    st.sampled_from([0.0, 0.5, 0.7, 1.0]),
    st.integers(0, 99),
    st.sampled_from([None, 0, 2]),
    st.booleans(),
)
def test_hierarchical_rule_matches_loop(coarse, threshold, seed, missing, keep):
    rng = np.random.default_rng(seed)
    root = np.hstack([np.array(coarse), rng.random((len(coarse), 6))]).astype(np.float32)
    coarse = root[:, :4].tolist()
    probabilities = rng.random((len(coarse), 6)).astype(np.float32)
    groups = [group for group in (0, 2) if group != missing]
    nodes = {"root": Scripted(root, TAXONOMY.labels)} | {
        TAXONOMY.coarse[group]: Scripted(
            probabilities[:, np.array(TAXONOMY.group) == group], TAXONOMY.fine_labels(group)
        )
        for group in groups
    }
    options = {"threshold": threshold, "unselected": "keep" if keep else "zero"}
    found = HierarchicalSystem(nodes, TAXONOMY, {}, **options)(clip=torch.arange(len(coarse))).numpy()
    wanted = root.copy() if keep else np.zeros((len(coarse), 10))
    for clip, row in enumerate(coarse):
        top = max(range(4), key=lambda group: row[group])
        for group in range(4):
            wanted[clip, group] = row[group]
            for index in range(6):
                if TAXONOMY.group[index] != group:
                    continue
                if group in (1, 3):
                    wanted[clip, 4 + index] = root[clip, 4 + index] if keep else row[group]
                elif (group == top or row[group] > threshold) and group != missing:
                    wanted[clip, 4 + index] = probabilities[clip, index]
    np.testing.assert_array_equal(found, wanted)
    # Each classifier runs at most once, on the selected clips only.
    for group in groups:
        runs = [i for i, row in enumerate(coarse) if row[group] > threshold or row[group] == max(row)]
        runs = [i for i in runs if coarse[i][group] > threshold or coarse[i].index(max(coarse[i])) == group]
        assert nodes[TAXONOMY.coarse[group]].asked == ([runs] if runs else [])

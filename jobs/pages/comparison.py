"""The page of two runs compared.

>>> html = render_comparison(drift, classes, ("labels/", "labels-b/"), pictures, notes)
"""

from collections.abc import Sequence

import numpy as np

from scclip.jobs.pages.render import render
from scclip.pipeline.review.drift import Classes, Drift
from scclip.pipeline.review.gallery import ChangedPicture
from scclip.pipeline.storage.retries import redact

FLOWS_SHOWN = 16


def render_comparison(
    drift: Drift,
    classes: Classes,
    runs: tuple[str, str],
    pictures: Sequence[ChangedPicture],
    notes: Sequence[str],
    *,
    demo: bool,
) -> str:
    """The whole page.

    Args:
        runs: where A and B are.
        pictures: images that changed most.
        notes: why some of them are missing.
        demo: whether labels of a run are the bundled demo model's, of pictures that it does not know.
    """
    rows = drift.classes()
    return render(
        "comparison.html.j2",
        title="Two runs compared",
        drift=drift,
        classes=classes,
        class_names={colour: classes.names[index] for index, colour in classes.colours.items()},
        runs=dict(zip("AB", map(redact, runs), strict=True)),
        rows=rows,
        mean_iou=np.mean([row.iou for row in rows]) if rows else None,
        flows=drift.flows()[:FLOWS_SHOWN],
        pictures=pictures,
        missing=notes,
        demo=demo,
    )

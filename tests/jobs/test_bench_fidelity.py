"""`scclip bench fidelity` accepts the arrays of an equal implementation and says where others differ."""

import json
from pathlib import Path

import numpy as np
import pytest
from golden import ARRAYS, META

from scclip.errors import UserError
from scclip.jobs.benchmarking import fidelity


@pytest.mark.parametrize(("shift", "code"), [(0.0, 0), (0.01, 1)])
def test_features_of_the_official_code(
    shift: float, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    meta = {"seed": META["seed"], "arch": {"small16": META["arch"]["small16"]}}
    (tmp_path / "a.json").write_text(json.dumps(meta))
    features = ARRAYS["small16.features"] + shift * np.abs(ARRAYS["small16.features"]).mean()
    np.savez(tmp_path / "a.npz", **{"small16.pixels": ARRAYS["small16.pixels"], "small16.features": features})
    assert fidelity.main(["--reference", str(tmp_path)]) == code
    assert ("OUTSIDE" in capsys.readouterr().out) == bool(code)


def test_a_folder_without_arrays_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"fidelity\.md"):
        fidelity.main(["--reference", str(tmp_path)])

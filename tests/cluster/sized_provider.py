"""Ray's fake nodes, of types that say how much memory they have.

Ray Data asks the autoscaler for nodes like those it sees, memory included. Ray's own fake provider refuses a type that
names its memory, and its nodes find another amount at every start: no type would ever do.
"""

import functools
from typing import Any
from unittest import mock

from ray._private.parameter import RayParams
from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider


class SizedProvider(FakeMultiNodeProvider):  # type: ignore[misc]
    """The same nodes with exactly the memory of their type."""

    def _create_node_with_resources_and_labels(
        self, node_config: Any, tags: Any, count: int, resources: dict[str, float], labels: Any
    ) -> None:
        rest = {name: amount for name, amount in resources.items() if name != "memory"}
        sized = functools.partial(RayParams, memory=resources["memory"])
        with mock.patch("ray._private.parameter.RayParams", sized):
            super()._create_node_with_resources_and_labels(node_config, tags, count, rest, labels)

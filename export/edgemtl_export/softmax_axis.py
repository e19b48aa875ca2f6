"""A softmax over another axis than the last is computed over the last, between two changes of layout.

YOLO's distributions of distances are over the second axis, where ONNX Runtime's own takes several times as long.
"""

from __future__ import annotations

import onnx
from onnx import helper


def softmax_over_last_axis(model: onnx.ModelProto) -> int:
    """Move the axis of every softmax of a known rank to the end, in place; return how many were moved.

    Outputs are the same numbers.
    """
    graph = model.graph
    softmaxes = [node for node in graph.node if node.op_type == "Softmax"]
    ranks = _ranks(model) if softmaxes else {}
    count = 0
    for node in softmaxes:
        rank = ranks.get(node.input[0], 0)
        axis = next((a.i for a in node.attribute if a.name == "axis"), -1)
        if not rank or axis % rank == rank - 1:
            continue
        perm = [d for d in range(rank) if d != axis % rank] + [axis % rank]
        moved, result, output = f"{node.output[0]}_moved", f"{node.output[0]}_over_last", node.output[0]
        index = list(graph.node).index(node)
        parts = [
            helper.make_node("Transpose", [node.input[0]], [moved], f"{output}_to_last", perm=perm),
            helper.make_node("Softmax", [moved], [result], node.name, axis=-1),
            helper.make_node(
                "Transpose", [result], [output], f"{output}_from_last", perm=[perm.index(d) for d in range(rank)]
            ),
        ]
        graph.node.remove(node)
        for part in reversed(parts):
            graph.node.insert(index, part)
        count += 1
    return count


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    """Return how many dimensions values have, of those where it can be inferred."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = [*graph.value_info, *graph.input, *graph.output]
    return {v.name: len(v.type.tensor_type.shape.dim) for v in values if v.type.tensor_type.HasField("shape")}

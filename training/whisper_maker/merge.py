"""Both decoder graphs in one file, `decoder_model_merged.onnx`: an `If` on the input `use_cache_branch`, with the weights
shared. It is the form that Hugging Face's exporter publishes."""

from pathlib import Path

import onnx
from onnx import helper, numpy_helper


class Branches:
    """Collects the weights of both graphs, each once."""

    def __init__(self) -> None:
        self.weights: dict[str, onnx.TensorProto] = {}
        self.names: dict[tuple, str] = {}

    def take(self, graph: onnx.GraphProto, prefix: str) -> tuple[list[onnx.NodeProto], dict[str, str]]:
        """The graph's nodes under names of their own, and the new name of each output."""
        inputs = {value.name for value in graph.input}
        renamed: dict[str, str] = {}
        for weight in graph.initializer:
            content = (weight.data_type, tuple(weight.dims), numpy_helper.to_array(weight).tobytes())
            name = self.names.setdefault(content, prefix + weight.name)
            renamed[weight.name] = name
            if name not in self.weights:
                self.weights[name] = onnx.TensorProto()
                self.weights[name].CopyFrom(weight)
                self.weights[name].name = name

        def rename(name: str) -> str:
            return name if not name or name in inputs else renamed.get(name, prefix + name)

        nodes = []
        for node in graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = prefix + node.name
            copy.input[:] = [rename(name) for name in node.input]
            copy.output[:] = [rename(name) for name in node.output]
            nodes.append(copy)
        return nodes, {value.name: rename(value.name) for value in graph.output}


def untyped(value: onnx.ValueInfoProto, name: str) -> onnx.ValueInfoProto:
    """The value under another name, with its type but not its shape: the two branches' shapes differ."""
    copy = onnx.ValueInfoProto()
    copy.CopyFrom(value)
    copy.name = name
    copy.type.tensor_type.ClearField("shape")
    return copy


def merge(first: Path, later: Path, merged: Path) -> None:
    """Writes `merged` from the decoder without and the decoder with past keys and values."""
    without, with_past = onnx.load(first), onnx.load(later)
    branches = Branches()
    first_nodes, first_outputs = branches.take(without.graph, "first_")
    later_nodes, later_outputs = branches.take(with_past.graph, "later_")
    first_values, later_values = [], []
    for output in without.graph.output:
        first_values.append(untyped(output, first_outputs[output.name]))
        if output.name not in later_outputs:  # the encoder's keys and values pass through
            later_outputs[output.name] = f"later_{output.name}"
            past = output.name.replace("present", "past_key_values")
            later_nodes.append(helper.make_node("Identity", [past], [later_outputs[output.name]]))
        later_values.append(untyped(output, later_outputs[output.name]))

    inputs = {value.name: value for value in [*with_past.graph.input, *without.graph.input]}
    outputs = []
    for output in without.graph.output:
        copy = onnx.ValueInfoProto()
        copy.CopyFrom(output)
        if ".decoder." in output.name:
            copy.type.tensor_type.shape.dim[2].dim_param = "present_length"
        outputs.append(copy)
    switch = helper.make_node(
        "If",
        ["use_cache_branch"],
        [output.name for output in outputs],
        then_branch=helper.make_graph(later_nodes, "with_past", [], later_values),
        else_branch=helper.make_graph(first_nodes, "without_past", [], first_values),
    )
    flag = helper.make_tensor_value_info("use_cache_branch", onnx.TensorProto.BOOL, [1])
    graph = helper.make_graph([switch], "merged", [*inputs.values(), flag], outputs, list(branches.weights.values()))
    model = helper.make_model(graph, opset_imports=without.opset_import, ir_version=without.ir_version)
    onnx.checker.check_model(model)
    onnx.save(model, merged)

"""ONNX files, node by node from the list of operations."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sb3_ddpg_ext.export.assembly import assemble
from sb3_ddpg_ext.export.names import PREVIOUS_REWARD
from sb3_ddpg_ext.export.source import Source
from sb3_ddpg_ext.runtime import MEMBER, Actor, Arrays, check_format

OPSET, IR_VERSION = 17, 8  # ONNX 1.12: LayerNormalization, and what most runtimes read
BATCH = "batch"  # the first dimension, of any size
# Operations that are one node, without settings.
ALIKE = dict(
    abs="Abs", add="Add", div="Div", max="Max", mul="Mul", relu="Relu", sigmoid="Sigmoid", softplus="Softplus",
    sub="Sub", tanh="Tanh",
)  # fmt: skip


class Graph:
    """Nodes and constants, as they come."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: Arrays = {}

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{kind}_{len(self.nodes)}", **attributes))
        return output

    def integers(self, *numbers: int) -> str:
        """:return: a constant, which nodes take in place of an attribute"""
        name = "/integers_" + "_".join(map(str, numbers))
        self.constants[name] = np.array(numbers, np.int64)
        return name


def _cast(graph: Graph, inputs: list[str], output: str, dtype: str) -> None:
    graph.node("Cast", inputs, output, to=element_type(dtype))


def _clip(graph: Graph, inputs: list[str], output: str) -> None:
    """One node, where all have the same bounds."""
    x, *bounds = inputs
    alike = [graph.constants[name].ravel() for name in bounds]
    if all((array == array[0]).all() for array in alike):
        for name, array in zip(bounds, alike, strict=True):
            graph.constants[name] = array[0]
        graph.node("Clip", inputs, output)
    else:
        graph.node("Min", [graph.node("Max", [x, bounds[0]], output + "_max"), bounds[1]], output)


def _linear(graph: Graph, inputs: list[str], output: str) -> None:
    graph.node("Gemm", inputs, output, transB=1)


def _conv2d(graph: Graph, inputs: list[str], output: str, stride: list[int], padding: list[int]) -> None:
    graph.node("Conv", inputs, output, strides=stride, pads=[*padding, *padding])


def _layer_norm(graph: Graph, inputs: list[str], output: str, eps: float) -> None:
    graph.node("LayerNormalization", inputs, output, axis=-1, epsilon=eps)


def _one_hot(graph: Graph, inputs: list[str], output: str, n: int) -> None:
    column = graph.node("Unsqueeze", [graph.node("Cast", inputs, output + "_i", to=element_type("int64")), graph.integers(-1)],
                        output + "_column")  # fmt: skip
    is_it = graph.node("Equal", [column, graph.integers(*range(n))], output + "_is")
    graph.node("Cast", [is_it], output, to=element_type("float32"))


def _slice(graph: Graph, inputs: list[str], output: str, start: int, stop: int) -> None:
    graph.node("Slice", [*inputs, graph.integers(start), graph.integers(stop), graph.integers(1)], output)


def _reshape(graph: Graph, inputs: list[str], output: str, shape: list[int]) -> None:
    graph.node("Reshape", [*inputs, graph.integers(-1, *shape)], output)


def _take(graph: Graph, inputs: list[str], output: str, index: int) -> None:
    name = f"/index_{index}"
    graph.constants[name] = np.array(index, np.int64)
    graph.node("Gather", [*inputs, name], output, axis=0)


def _stack(graph: Graph, inputs: list[str], output: str) -> None:
    lifted = [graph.node("Unsqueeze", [x, graph.integers(0)], f"{output}_{i}") for i, x in enumerate(inputs)]
    graph.node("Concat", lifted, output, axis=0)


NODES: dict[str, Callable[..., None]] = {
    "cast": _cast,
    "clip": _clip,
    "concat": lambda graph, inputs, output: graph.node("Concat", inputs, output, axis=1),
    "conv2d": _conv2d,
    "elu": lambda graph, inputs, output, alpha: graph.node("Elu", inputs, output, alpha=float(alpha)),
    "flatten": lambda graph, inputs, output: graph.node("Flatten", inputs, output, axis=1),
    "layer_norm": _layer_norm,
    "linear": _linear,
    "mean": lambda graph, inputs, output: graph.node("ReduceMean", inputs, output, axes=[-1]),
    "one_hot": _one_hot,
    "reshape": _reshape,
    "slice": _slice,
    "stack": _stack,
    "take": _take,
    "transpose": lambda graph, inputs, output, axes: graph.node("Transpose", inputs, output, perm=axes),
}  # fmt: skip


def element_type(dtype: str) -> int:
    """ONNX's number of a type of NumPy."""
    from onnx import helper

    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def write(source: Source, about: dict[str, Any]) -> bytes:
    """
    :param source: what is exported
    :param about: its description
    :return: the content of the file
    :raises ImportError: if onnx is missing
    """
    try:
        import onnx
        from onnx import helper, numpy_helper
    except ImportError as error:
        raise ImportError(f"format='onnx' needs onnx ({error}): pip install 'sb3_ddpg_ext[export]'") from error
    program, graph = assemble(source), Graph()
    graph.constants |= program.arrays
    for operation, inputs, output, settings in program.named():
        if operation in ALIKE:
            graph.node(ALIKE[operation], inputs, output)
        else:
            NODES[operation](graph, inputs, output, **settings)
    ins, outs = ([helper.make_tensor_value_info(*one) for one in side] for side in signature(about))
    constants = [numpy_helper.from_array(array, name) for name, array in graph.constants.items()]
    made = helper.make_graph(graph.nodes, "actor", ins, outs, constants, doc_string=in_words(about))
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="sb3_ddpg_ext",
        producer_version=about["versions"]["sb3_ddpg_ext"], ir_version=IR_VERSION,
    )  # fmt: skip
    helper.set_model_props(model, {MEMBER: json.dumps(about | dict(opset=OPSET))})
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def signature(about: dict[str, Any]) -> tuple[list[tuple[str, int, list[Any]]], list[tuple[str, int, list[Any]]]]:
    """Name, type and shape of each input and of each output."""
    single = element_type("float32")
    states = [(entry, [size if size is not None else BATCH for size in entry["shape"]]) for entry in about["state"]]
    inputs = [(one["name"], element_type(one["dtype"]), [BATCH, *one["shape"]]) for one in about["observation"]]
    inputs += [(entry["name"], single, shape) for entry, shape in states]
    inputs += [(PREVIOUS_REWARD, single, [BATCH, 1])] if about["previous_reward"] else []
    action = about["action"]
    outputs = [(action["output"], element_type(action["dtype"]), [BATCH, *action["shape"]])]
    return inputs, outputs + [(entry["output"], single, shape) for entry, shape in states]


def in_words(about: dict[str, Any]) -> str:
    """For those who look at the graph."""
    action = about["action"]
    text = f"Raw observations to actions in the units of the environment, within {action['low']} and {action['high']}."
    return text if not about["state"] else f"{text} States are zeros where an episode begins."


class OnnxActor(Actor):
    """
    Acts by onnxruntime.

    :param path: of the file
    :param n_threads: for one action; more than one is slower for small networks
    """

    def __init__(self, path: str | Path, n_threads: int = 1):
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError(f"an ONNX file needs onnxruntime ({error}): pip install 'sb3_ddpg_ext[export]'") from error
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = n_threads
        settings.log_severity_level = 3  # errors
        self.session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        properties = self.session.get_modelmeta().custom_metadata_map
        super().__init__(check_format(path, json.loads(properties.get(MEMBER, "{}"))))
        self.outputs = [output.name for output in self.session.get_outputs()]

    def run(self, inputs: Arrays) -> list[np.ndarray]:
        return self.session.run(self.outputs, inputs)


load = OnnxActor

"""An update as a program: its operations are recorded while it is done, written as a text, and done again from there.

Networks of 64 to 128 units spend most of an update in Python: modules, autograd's record, the calls of 250 operations.
The operations themselves, gradients and optimizers among them, are always the same ones on the same shapes. The text
has a line for each of them; TorchScript's interpreter does them without Python, or torch's compiler fuses them.

What an update may do is what a CUDA graph may: change tensors in place, and decide nothing by their values.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import chain, repeat
from operator import getitem, is_
from types import ModuleType
from typing import Any, NamedTuple

import gymnasium
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from orl import torch_private
from orl.buffer import Batch, Metrics
from orl.noise import Noise, tensors_of


class Value(NamedTuple):
    """A tensor of a program: a view of some memory."""

    memory: int  # its number
    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int


class Operation(NamedTuple):
    """One call of a function of torch; tensors are `Value`s, also within lists."""

    function: Any
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    results: list[Value | None]
    is_view: bool  # whether it only gives memory another shape


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the operations that torch does meanwhile.

    Args:
        inputs: tensors that are others in the next update.

    Attributes:
        operations: in their order.
        state: what was there before and is no input, such as parameters, by the number of its memory.
        before: copies of it, from before the first operation that used it.
        refusal: what can't be done again.
    """

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[Operation] = []
        self.state: dict[int, Tensor] = {}
        self.before: dict[int, Tensor] = {}
        self.refusal = ""
        self.numbers: dict[torch_private.StorageWeakRef, int] = {}  # a reference stops an address from being reused
        self.inputs = [self._value(tensor, is_new=True) for tensor in inputs]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise torch imports its compiler here, for a second

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), keywords: Mapping[str, Any] | None = None
    ) -> Any:
        """Do the operation, and record it."""
        keywords = dict(keywords or {})
        if torch.Tag.nondeterministic_seeded in function.tags:
            self.refusal = f"{function} draws random numbers"
        if torch.Tag.data_dependent_output in function.tags or _has_shape_of_values(function, arguments):
            self.refusal = f"{function} asks for numbers"
        taken = self._values(arguments), self._values(keywords)
        before = len(self.numbers)
        results = function(*arguments, **keywords)
        outputs = results if isinstance(results, list | tuple) else [results]
        values = [self._value(tensor, is_new=True) if isinstance(tensor, Tensor) else None for tensor in outputs]
        is_view = len(self.numbers) == before and not function._schema.is_mutable
        self.operations.append(Operation(function, *taken, values, is_view))
        return results

    def value(self, tensor: Tensor) -> Value:
        """What the program calls a tensor."""
        return self._value(tensor, is_new=False)

    def number_of(self, value: Any) -> int | None:
        """The number of a tensor's memory, if the update used any."""
        if not isinstance(value, Tensor) or value.layout is not torch.strided:
            return None
        return self.numbers.get(torch_private.StorageWeakRef(value.untyped_storage()))  # type: ignore[no-untyped-call]

    def _value(self, tensor: Tensor, *, is_new: bool) -> Value:
        reference = torch_private.StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
        if reference not in self.numbers:
            self.numbers[reference] = len(self.numbers)
            if not is_new:
                self.state[self.numbers[reference]] = tensor.detach()
                self.before[self.numbers[reference]] = whole(tensor).clone()
        shape, strides, offset = tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset())
        return Value(self.numbers[reference], tensor.dtype, shape, strides, offset)

    def _values(self, argument: Any) -> Any:
        if isinstance(argument, Tensor):
            return self.value(argument)
        if isinstance(argument, dict):
            return {name: self._values(item) for name, item in argument.items()}
        return [self._values(item) for item in argument] if isinstance(argument, list | tuple) else argument


def _has_shape_of_values(function: Any, arguments: Sequence[Any]) -> bool:
    """Whether the values of tensors decide how long a result is; of indices only where they are a mask."""
    if function is torch.ops.aten.index.Tensor:
        return any(index.dtype in (torch.bool, torch.uint8) for index in arguments[1] if index is not None)
    return torch.Tag.dynamic_output_shape in function.tags


class PythonWatch(TorchFunctionMode):
    """Notes where Python takes the numbers of tensors, which no operation of torch does.

    Args:
        recorder: gets to know it.
    """

    TAKE = (Tensor.numpy, Tensor.tolist, Tensor.__array__)

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), keywords: Mapping[str, Any] | None = None
    ) -> Any:
        """Call the function."""
        if function in self.TAKE:
            self.recorder.refusal = f"{function.__name__} asks for numbers"
        return function(*arguments, **(keywords or {}))


class Reference(NamedTuple):
    """An entry of a dictionary, also of an object's attributes, or an item of a list."""

    container: Any
    key: Any
    value: Any


def references(
    thing: Any, is_wanted: Callable[[Any], bool], seen: dict[int, bool] | None = None, depth: int = 0
) -> list[Reference]:
    """What leads from an object through attributes, entries and items to the values that are wanted.

    Args:
        thing: to look into; environments, classes and modules are not.
        is_wanted: of a value.
        seen: by id, whether an object leads to such a value.
        depth: of what was looked into on the way; a layer's parameter is eight deep, and beyond 50 nobody looks.
    """
    seen = {} if seen is None else seen
    container = thing if isinstance(thing, dict | list | tuple) else getattr(thing, "__dict__", None)
    is_closed = isinstance(thing, type | ModuleType | gymnasium.Env | gymnasium.vector.VectorEnv)
    if container is None or is_closed or id(thing) in seen or depth > 50:
        return []
    seen[id(thing)], found = False, []
    for key, value in list(container.items() if isinstance(container, dict) else enumerate(container)):
        found += references(value, is_wanted, seen, depth + 1)
        if is_wanted(value) or seen.get(id(value)):
            found.append(Reference(container, key, value))
            seen[id(thing)] = True
    return found


class Bindings:
    """What an update's object has of what its program works on, to see whether it has so still.

    Args:
        owner: of the update.
        recorder: of the update, just now.

    Raises:
        ValueError: the update left a tensor of its own there, where the program would leave none.
    """

    def __init__(self, owner: Any, recorder: Recorder) -> None:
        inputs = {value.memory for value in recorder.inputs}
        number_of = recorder.number_of
        found = references(owner, lambda value: number_of(value) not in {None, *inputs})
        for _, key, value in found:
            if number_of(value) not in {None, *recorder.state}:
                raise ValueError(f"it makes {key!r} anew, which can only be changed in place")
        of_owner = getattr(owner, "__dict__", None)
        own = [(each.key, each.value) for each in found if each.container is of_owner]
        own += [(key, value) for key, value in (of_owner or {}).items() if _is_setting(value)]
        others = [each for each in found if each.container is not of_owner]  # without a reference to the owner
        self.num_own, self.containers = len(own), [each.container for each in others]
        self.keys = [key for key, _ in own] + [each.key for each in others]
        self.values = [value for _, value in own] + [each.value for each in others]
        self.tensors = list({id(value): value for value in self.values if isinstance(value, Tensor)}.values())
        self.addresses = self._addresses()

    def hold(self, owner: Any) -> bool:
        """Whether nothing was replaced by something else, nor its memory; takes 10 microseconds."""
        containers = chain(repeat(getattr(owner, "__dict__", None), self.num_own), self.containers)
        try:
            is_same = all(map(is_, map(getitem, containers, self.keys), self.values))
        except (LookupError, TypeError):  # what is no more
            return False
        return is_same and self._addresses() == self.addresses

    def _addresses(self) -> list[int]:
        return [tensor.data_ptr() for tensor in self.tensors]


def _is_setting(value: Any) -> bool:
    """Whether an update may have taken a number from a value, which is none that counts."""
    return isinstance(value, float) or dataclasses.is_dataclass(value)


def view_of(state: Mapping[int, Tensor], value: Value) -> Tensor:
    """A tensor of the state."""
    return state[value.memory].as_strided(value.shape, value.strides, value.offset)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor's memory, (N,)."""
    return torch.empty(0, dtype=tensor.dtype, device=tensor.device).set_(tensor.untyped_storage())  # type: ignore[arg-type]


class Program(ABC):
    """An update that was recorded while it was done, on the memory of its agent.

    Args:
        update: to be done; of a method, the program is one of its object.
        batch: of one update.
        noise: its random numbers.
        decisions: further arguments.

    Attributes:
        metrics: of the update that was done.
        error: why it can't be done again: it can't be written down, or gives something else then.
        source: the text.
    """

    def __init__(self, update: Callable[..., Metrics], batch: Batch, noise: Noise, *decisions: Hashable) -> None:
        owner = getattr(update, "__self__", None)
        numbers = references(owner, lambda value: isinstance(value, int | float))
        tensors = tensors_of(batch, noise)
        inputs = [values[None].clone() for values in tensors]
        with Recorder(tensors) as recorder, PythonWatch(recorder):
            self.metrics = update(batch, noise, *decisions)
        self.metric_names = list(self.metrics)
        self.error: BaseException | None = None
        try:
            if recorder.refusal:
                raise ValueError(recorder.refusal)
            if counted := [key for container, key, value in numbers if container[key] is not value]:
                raise ValueError(f"Python changes {counted[0]!r}")
            self.bindings = Bindings(owner, recorder)
            self._write(recorder)
            self._check(recorder, inputs)
        except Exception as error:  # whatever the reader of the text can fail with
            self.error = error

    def __call__(self, inputs: Sequence[Tensor]) -> Metrics:
        """Do n updates with inputs (n, P, ...), one after the other; the metrics of the last."""
        with torch.no_grad():
            return dict(zip(self.metric_names, self._run(inputs, self.arguments), strict=True))

    def is_current(self, owner: Any) -> bool:
        """Whether the update's object still has what the program works on."""
        return self.bindings.hold(owner)

    def _write(self, recorder: Recorder) -> None:
        self.state = recorder.state
        self.names = {value: f"input{i}" for i, value in enumerate(recorder.inputs)}
        self.made = {value.memory: value for value in recorder.inputs}  # the first view of what is no state
        self.views: list[Value] = []  # of the state, arguments of the function
        self.lines: list[str] = []
        for operation in recorder.operations:
            self._write_operation(operation)
        results = [self._name(recorder.value(tensor)) for tensor in self.metrics.values()]
        self._read(len(recorder.inputs), f"[{', '.join(results)}]")
        self.arguments = self._bind(self.state)

    @abstractmethod
    def _read(self, num_inputs: int, results: str) -> None:
        """Make the text, and a function of it."""

    @abstractmethod
    def _run(self, inputs: Sequence[Tensor], arguments: Sequence[Any]) -> Sequence[Tensor]:
        """Do n updates on some state; the results of the last."""

    def _bind(self, state: Mapping[int, Tensor]) -> list[Any]:
        """What the function takes of a state."""
        return [view_of(state, value) for value in self.views]

    def _check(self, recorder: Recorder, inputs: Sequence[Tensor]) -> None:
        """Do the update again on copies of what was there before, and compare.

        Raises:
            ValueError: something came out differently.
        """
        with torch.no_grad():
            results = self._run(inputs, self._bind(recorder.before))
        mine = [*results, *recorder.before.values()]
        others = [*self.metrics.values(), *(whole(tensor) for tensor in recorder.state.values())]
        if not all(map(self._is_same, mine, others)):
            raise ValueError("done again from its record, the update gives other numbers")

    @abstractmethod
    def _is_same(self, mine: Tensor, other: Tensor) -> bool:
        """Whether numbers are the same as far as such a program promises it."""

    def _write_operation(self, operation: Operation) -> None:
        words = [self._word(argument) for argument in operation.arguments]
        words += [f"{name}={self._word(argument)}" for name, argument in operation.keywords.items()]
        results = []
        for value in operation.results:
            is_known = value is None or value in self.names or (value.memory in self.made and not operation.is_view)
            results.append("_" if value is None or is_known else self._new_name(value))
            if value is not None and value.memory not in self.state:
                self.made.setdefault(value.memory, value)
        call = f"{self._function(operation)}({', '.join(words)})"
        self.lines.append(call if set(results) <= {"_"} else f"{', '.join(results)} = {call}")

    @abstractmethod
    def _function(self, operation: Operation) -> str: ...

    def _new_name(self, value: Value) -> str:
        self.names[value] = f"value{len(self.names)}"
        return self.names[value]

    def _name(self, value: Value) -> str:
        """The name of a tensor, which is made first where it is another view of its memory."""
        if value in self.names:
            return self.names[value]
        if value.memory in self.state:
            self.views.append(value)
            return self._new_name(value)
        base = self.made[value.memory]
        name, offset = self.names[base], value.offset - base.offset
        start = f"{name}.storage_offset() + {offset}" if offset else "None"
        self.lines.append(
            f"{self._new_name(value)} = "
            f"torch.ops.aten.as_strided({name}, {list(value.shape)}, {list(value.strides)}, {start})"
        )
        return self.names[value]

    def _word(self, argument: Any) -> str:
        if isinstance(argument, Value):
            return self._name(argument)
        if isinstance(argument, list):
            return f"[{', '.join(map(self._word, argument))}]"
        if isinstance(argument, float) and not math.isfinite(argument):
            return f'float("{argument}")'
        return f'torch.device("{argument}")' if isinstance(argument, torch.device) else repr(argument)


class ReplayedProgram(Program):
    """Done without Python by TorchScript's interpreter, many updates a call, bit for bit.

    Views are made where they are needed, from the memory that they look at, and those of the state only once. Numbers
    that tensors are multiplied by, or that are added, are tensors already, which the interpreter would make of them.
    """

    TAKE_NUMBERS = ("add.Tensor", "add_.Tensor", "sub.Tensor", "rsub.Scalar", "mul.Tensor", "mul_.Tensor")

    def _read(self, num_inputs: int, results: str) -> None:
        arguments = [f"inputs{i}: Tensor" for i in range(num_inputs)]
        arguments += [f"{self.names[value]}: Tensor" for value in self.views]
        arguments += [f"{name}: List[Tensor]" for name in self.lists.values()]
        body = [f"input{i} = inputs{i}[update]" for i in range(num_inputs)] + self.lines + [f"results = {results}"]
        self.source = "\n".join([
            f"def updates(count: int, {', '.join(arguments)}):",
            "    results: List[Tensor] = []",
            "    for update in range(count):",
            *(f"        {line}" for line in body),
            "    return results\n",
        ])  # fmt: skip
        self.function = torch.jit.CompilationUnit(self.source).updates

    def _run(self, inputs: Sequence[Tensor], arguments: Sequence[Any]) -> Sequence[Tensor]:
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            results: list[Tensor] = self.function(len(inputs[0]), *inputs, *arguments)
        return results

    def _is_same(self, mine: Tensor, other: Tensor) -> bool:
        return torch.equal(mine.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))

    def _write(self, recorder: Recorder) -> None:
        # Lists of tensors of the state are arguments: what only writes to a list that is made in a program, as Adam
        # does, counts as never read, and TorchScript drops it.
        self.lists: dict[tuple[Value, ...], str] = {}
        self.constants: dict[tuple[float, torch.dtype], Value] = {}
        self.recorder = recorder
        super()._write(recorder)
        del self.recorder

    def _bind(self, state: Mapping[int, Tensor]) -> list[Any]:
        return super()._bind(state) + [[view_of(state, value) for value in values] for values in self.lists]

    def _write_operation(self, operation: Operation) -> None:
        if operation.is_view:
            return
        if str(operation.function).removeprefix("aten.") in self.TAKE_NUMBERS:
            tensor, number, *others = operation.arguments
            if isinstance(number, int | float) and tensor.dtype.is_floating_point and tensor.shape:
                operation = operation._replace(arguments=(tensor, self._constant(number, tensor.dtype), *others))
        super()._write_operation(operation)

    def _constant(self, number: float, dtype: torch.dtype) -> Value:
        if (number, dtype) not in self.constants:
            tensor, memory = torch.full((1,), number, dtype=dtype), -1 - len(self.constants)
            self.recorder.state[memory] = self.recorder.before[memory] = tensor
            self.constants[number, dtype] = Value(memory, dtype, (), (), 0)
        return self.constants[number, dtype]

    def _function(self, operation: Operation) -> str:
        return f"torch.ops.{operation.function._schema.name.replace('::', '.')}"

    def _word(self, argument: Any) -> str:
        memories = {getattr(item, "memory", None) for item in argument} if isinstance(argument, list) else set()
        if memories and memories <= self.state.keys():
            return self.lists.setdefault(tuple(argument), f"list{len(self.lists)}")
        return super()._word(argument)


class CompiledProgram(Program):
    """Fused by torch's compiler, which takes up to a minute, and gives the same numbers up to rounding."""

    def _read(self, num_inputs: int, results: str) -> None:
        names = [f"input{i}" for i in range(num_inputs)] + [self.names[value] for value in self.views]
        lines = [f"    {line}" for line in (*self.lines, f"return {results}")]
        self.source = "\n".join([f"def update({', '.join(names)}):", *lines, ""])
        functions: dict[str, Any] = {"torch": torch, "adam": adam}
        exec(self.source, functions)
        self.function: Callable[..., Sequence[Tensor]] = torch.compile(  # type: ignore[call-overload]
            functions["update"],
            fullgraph=True,
            dynamic=False,
            options={"guard_filter_fn": lambda guards: [False] * len(guards)},  # shapes are always the same
        )

    def _run(self, inputs: Sequence[Tensor], arguments: Sequence[Any]) -> Sequence[Tensor]:
        for of_update in zip(*(values.unbind() for values in inputs), strict=True):
            results: Sequence[Tensor] = self.function(*of_update, *arguments)
        return results

    def _is_same(self, mine: Tensor, other: Tensor) -> bool:
        """Within a hundredth: what was left out or done twice would be much more, rounding is much less."""
        if not mine.is_floating_point():
            return torch.equal(mine, other)
        difference = (mine - other).norm() - 0.01 * other.norm()
        return bool(difference <= 1e-5 * mine.numel() ** 0.5) or not bool(other.isfinite().all())

    def _write_operation(self, operation: Operation) -> None:
        if operation.is_view and all(value in self.names for value in operation.results):
            return
        if operation.function is torch.ops.aten._fused_adam_.tensor_lr:
            parameters, gradients, averages, squares, _, steps = map(self._word, operation.arguments)
            rate = self._word(operation.keywords["lr"])
            self.lines.append(f"adam({parameters}, {gradients}, {averages}, {squares}, {steps}, {rate})")
        else:
            super()._write_operation(operation)

    def _function(self, operation: Operation) -> str:
        return f"torch.ops.{operation.function}"


def adam(
    parameters: list[Tensor],
    gradients: list[Tensor],
    exp_avg: list[Tensor],
    exp_avg_sq: list[Tensor],
    steps: list[Tensor],
    learning_rate: Tensor,
) -> None:
    """A step of `orl.updates.Adam`, written out for compilers, which can't look into torch's kernel."""
    corrections = [1.0 - torch.exp(steps[0].double() * math.log(beta)) for beta in (0.9, 0.999)]
    size, root = (learning_rate / corrections[0]).to(exp_avg[0]), corrections[1].sqrt().to(exp_avg[0])
    for parameter, gradient, average, squares in zip(parameters, gradients, exp_avg, exp_avg_sq, strict=True):
        average.lerp_(gradient, 0.1)
        squares.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        parameter.sub_(size * average / (squares.sqrt() / root + 1e-8))

"""Reading the package as written: its modules, the names in them, and the classes that a facade can mirror."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ITERATORS = frozenset({"AsyncIterator", "AsyncGenerator", "AsyncIterable"})
MANAGERS = frozenset({"AbstractAsyncContextManager", "AsyncContextManager"})

Function = ast.FunctionDef | ast.AsyncFunctionDef
Origin = tuple[str, str]
"""A module and a name in it: where something is defined, as far as this package knows."""


class CannotTranslate(Exception):
    """The source has something that this generator does not know how to mirror."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A module of the source, as written."""

    name: str
    tree: ast.Module
    imports: dict[str, Origin]
    defined: frozenset[str]

    def origin(self, name: str) -> Origin | None:
        """Where a name used in this module comes from; None for a builtin."""
        if name in self.defined:
            return (self.name, name)
        if name in self.imports:
            return self.imports[name]
        if hasattr(builtins, name):
            return None
        raise CannotTranslate(f"{self.name} uses {name!r}, which it neither defines nor imports by name")

    def find_class(self, name: str) -> ast.ClassDef | None:
        """The class of that name, if the module has one."""
        return next((node for node in self.tree.body if isinstance(node, ast.ClassDef) and node.name == name), None)


class Source:
    """The modules of the package under a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.module = cache(self._module)

    def _module(self, name: str) -> Module:
        path = self.folder / Path(*name.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
        imports: dict[str, Origin] = {}
        defined: set[str] = set()
        for node in tree.body:
            match node:
                case ast.ImportFrom(module=str(origin), names=names):
                    imports |= {alias.asname or alias.name: (origin, alias.name) for alias in names}
                case ast.ClassDef(name=found) | ast.FunctionDef(name=found) | ast.AsyncFunctionDef(name=found):
                    defined.add(found)
                case ast.AnnAssign(target=ast.Name(id=found)):
                    defined.add(found)
                case ast.Assign(targets=targets):
                    defined |= {target.id for target in targets if isinstance(target, ast.Name)}
                case _:
                    pass  # imports of whole modules and statements name nothing that a signature uses
        return Module(name=name, tree=tree, imports=imports, defined=frozenset(defined))

    def facade(self, origin: Origin | None) -> ast.ClassDef | None:
        """The class behind a name, if it is one to mirror: a plain class of the core, not a value or an error."""
        if origin is None or not origin[0].startswith("perdure.core."):
            return None
        module = self.module(origin[0])
        node = module.find_class(origin[1])
        if node is None or node.decorator_list:
            return None
        bases = [self.facade(module.origin(base.id)) if isinstance(base, ast.Name) else None for base in node.bases]
        return None if None in bases else node

    def members(self, origin: Origin) -> Iterator[tuple[Module, ast.stmt]]:
        """What the body of a class holds, after what its bases hold; later entries replace earlier ones."""
        module = self.module(origin[0])
        node = self.facade(origin)
        assert node is not None, f"{origin} is not mirrored"
        for base in reversed(node.bases):
            assert isinstance(base, ast.Name)
            inherited = module.origin(base.id)
            assert inherited is not None
            yield from self.members(inherited)
        for statement in node.body:
            yield module, statement


def attributes(module: Module, node: Function) -> Iterator[tuple[str, ast.expr]]:
    """The public attributes that ``__init__`` sets, and their types."""
    parameters = {argument.arg: argument.annotation for argument in (*node.args.args, *node.args.kwonlyargs)}
    for statement in ast.walk(node):
        annotation: ast.expr | None
        match statement:
            case ast.AnnAssign(target=ast.Attribute(value=ast.Name(id="self"), attr=name), annotation=annotation):
                pass
            case ast.Assign(targets=[ast.Attribute(value=ast.Name(id="self"), attr=name)], value=ast.Name(id=value)):
                annotation = parameters.get(value)
            case ast.Assign(targets=[ast.Attribute(value=ast.Name(id="self"), attr=name)], value=ast.Call(func=made)):
                # A class that is called gives its instance; what a function gives, the source has to say.
                annotation = made if isinstance(made, ast.Name) and made.id[0].isupper() else None
            case ast.Assign(targets=[ast.Attribute(value=ast.Name(id="self"), attr=name)]):
                annotation = None
            case _:
                continue
        if not name.startswith("_"):
            if annotation is None:
                raise CannotTranslate(f"{module.name}: say the type of self.{name}")
            yield name, annotation


def iterated(annotation: ast.expr) -> ast.expr | None:
    """What an asynchronous iterator gives."""
    match annotation:
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Tuple(elts=[item, *_]) | item) if name in ITERATORS:
            return item
    return None


def yields(node: ast.AST) -> bool:
    """Whether a function is a generator."""
    return any(isinstance(child, ast.Yield) for child in ast.walk(node))


def names(expression: ast.expr | None) -> set[str]:
    """The names that an expression uses."""
    return {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)} if expression is not None else set()


class BuiltinsSpelled(ast.NodeTransformer):
    """Writes ``builtins.list`` for ``list`` where a method is called ``list`` too."""

    def __init__(self, hidden: frozenset[str]) -> None:
        self.hidden = hidden

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Replace a hidden name."""
        if node.id in self.hidden:
            return ast.Attribute(value=ast.Name(id="builtins", ctx=ast.Load()), attr=node.id, ctx=ast.Load())
        return node

#!/usr/bin/env python3
"""Fails if the files of a crate have cyclic dependencies: scripts/check-cycles.py [CRATE…]

A file depends on another if it names one of its items, in a `use`, a re-export or a path in the code. A re-exported name belongs to
the file that defines it. Tests at the end of a file are ignored.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
IGNORED = re.compile(r'//[^\n]*|/\*.*?\*/|\(in [\w:]+\)', re.S)
TESTS = re.compile(r'^#\[cfg\(test\)\]\s*(?:pub(?:\([\w ]+\))? )?mod \w+ \{', re.M)
MODULE = re.compile(r'^\s*(?:pub(?:\([\w ]+\))? )?mod (\w+);', re.M)
USE = re.compile(r'^\s*(pub(?:\([\w ]+\))? )?use ([^;]+);', re.M)
PATH = re.compile(r'(?<![\w:])(?:crate|super|self)(?:::\w+)+|(?<![\w:.])(\w+)(?:::\w+)+')


def leaves(tree):
    """The paths of a use tree, each a list of segments with the name it is imported as."""
    tree = tree.strip()
    head, brace, rest = tree.partition('{')
    if not brace:
        path, _, name = tree.partition(' as ')
        path = [part.strip() for part in path.split('::')]
        return [(path, name.strip() or path[-1])]
    prefix = [part for part in head.strip().removesuffix('::').split('::') if part]
    found, depth, start = [], 0, 0
    inside = rest[: rest.rindex('}')] + ','
    for at, letter in enumerate(inside):
        depth += {'{': 1, '}': -1}.get(letter, 0)
        if letter == ',' and depth == 0:
            if inside[start:at].strip():
                for path, name in leaves(inside[start:at]):
                    whole = prefix + path
                    if path == ['self']:
                        whole, name = prefix, prefix[-1] if name == 'self' else name
                    found.append((whole, name))
            start = at + 1
    return found


class Crate:
    def __init__(self, folder):
        self.files, self.text, self.exports = {}, {}, {}
        self.add((), next(path for path in (folder / 'src/lib.rs', folder / 'src/main.rs') if path.exists()))
        for module, text in self.text.items():
            exports = {}
            for public, tree in USE.findall(text):
                if public:
                    for path, name in leaves(tree):
                        exports[name] = path
            self.exports[module] = exports

    def add(self, module, path):
        text = IGNORED.sub('', path.read_text())
        tests = TESTS.search(text)
        text = text[: tests.start()] if tests else text
        self.files[module], self.text[module] = path, text
        below = path.parent if path.name in ('mod.rs', 'lib.rs', 'main.rs') else path.with_suffix('')
        for name in MODULE.findall(text):
            for child in (below / f'{name}.rs', below / name / 'mod.rs'):
                # Missing if it is a test module.
                if child.exists():
                    self.add((*module, name), child)

    def resolve(self, module, path, seen=()):
        """The module that defines the item a path in `module` refers to; None if it is not in this crate."""
        path = list(path)
        if path[0] == 'crate':
            at, path = (), path[1:]
        elif path[0] in ('super', 'self'):
            at = module
            while path and path[0] in ('super', 'self'):
                at = at[:-1] if path[0] == 'super' else at
                path = path[1:]
        elif (*module, path[0]) in self.files:
            at = module
        else:
            return None
        while path and (*at, path[0]) in self.files:
            at, path = (*at, path[0]), path[1:]
        if path and path[0] in self.exports[at] and (at, path[0]) not in seen:
            origin = self.resolve(at, [*self.exports[at][path[0]], *path[1:]], (*seen, (at, path[0])))
            return origin if origin is not None else at
        return at

    def depends(self):
        graph = {}
        for module, text in self.text.items():
            paths = [path for _, tree in USE.findall(text) for path, _ in leaves(tree)]
            paths += [match.group().split('::') for match in PATH.finditer(USE.sub('', text))]
            found = {self.resolve(module, path) for path in paths}
            graph[module] = found - {None, module}
        return graph


def cycles(graph):
    """Strongly connected components with more than one member (Tarjan)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component = stack[stack.index(node):]
            del stack[stack.index(node):]
            if len(component) > 1:
                found.append(sorted(component))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def main():
    sys.setrecursionlimit(10_000)
    crates = [ROOT / name for name in sys.argv[1:]]
    crates = crates or sorted(path.parent for path in ROOT.glob('[hcb]*/**/Cargo.toml') if (path.parent / 'src').exists())
    failed = False
    for folder in crates:
        crate = Crate(folder)
        graph = crate.depends()
        for cycle in cycles(graph):
            failed = True
            print(f'{folder.relative_to(ROOT)}: {len(cycle)} files have cyclic dependencies:')
            for module in cycle:
                others = sorted(crate.files[other].relative_to(folder).as_posix() for other in graph[module] & set(cycle))
                print(f'  {crate.files[module].relative_to(folder)} -> {", ".join(others)}')
    return failed


sys.exit(main())

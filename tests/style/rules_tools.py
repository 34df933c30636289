"""Rules that a tool decides (clang-format, shellcheck), and rules about every file."""
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import table
from source import Tree, line_of


class Skipped(Exception):
    """The rule cannot be checked here."""


def on_disk(tree, paths):
    """The files of a tree as a folder: the real one, or a copy of an example."""
    if tree.root is not None:
        return Path(tree.root), None
    folder = tempfile.TemporaryDirectory()
    for path in paths:
        target = Path(folder.name) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(tree.files[path])
    style = Path(__file__).resolve().parents[2] / '.clang-format'
    (Path(folder.name) / '.clang-format').write_text(style.read_text())
    return Path(folder.name), folder


def run_tool(tool, arguments, tree, paths):
    if not paths:
        return []
    if shutil.which(tool) is None:
        raise Skipped(f'{tool} is not installed')
    root, folder = on_disk(tree, paths)
    done = subprocess.run([tool, *arguments, *paths], cwd=root, capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL)
    if folder:
        folder.cleanup()
    return (done.stdout + done.stderr).split('\n') if done.returncode else []


def clang_format(tree):
    """clang-format would change nothing"""
    lines = run_tool('clang-format', ['--dry-run', '-Werror', '--style=file'], tree, sorted(tree.cpp()))
    files = {}
    for line in lines:
        match = re.match(r'(.+?):(\d+):\d+: error', line)
        if match:
            files.setdefault(match.group(1), []).append(match.group(2))
    return [f'{path}:{where[0]}: {len(where)} deviations' for path, where in files.items()]


def is_shell(text):
    return re.match(r'#!.*\b(?:ba|da|)sh\b', text.split('\n', 1)[0]) is not None


def shellcheck(tree):
    """shellcheck finds nothing in the shell scripts"""
    scripts = sorted(path for path, text in tree.files.items() if is_shell(text))
    return [line for line in run_tool('shellcheck', ['-f', 'gcc'], tree, scripts) if re.match(r'.+:\d+:\d+:', line)]


NAMES = re.compile('|'.join(f'(?:{pattern})' for pattern in table.FORBIDDEN_NAMES))


def forbidden_names(tree):
    """no file names a registry's host or a path of a developer's machine"""
    return [f'{path}:{line_of(text, match.start())}: {match.group(0)}' for path, text in tree.files.items()
            for match in NAMES.finditer(text)]


def whitespace(tree):
    """a text file ends with one newline and has no space at a line's end"""
    found = []
    for path, text in tree.files.items():
        if path.startswith('fuzz/corpus/') or path.startswith('tests/golden/') or not text or path.endswith(('.patch', '.svg', '.json')):
            continue
        if not text.endswith('\n') or text.endswith('\n\n'):
            found.append(f'{path}: does not end with exactly one newline')
        match = re.search(r'[ \t]+$', text, re.M)
        if match and not path.endswith('.md'):
            found.append(f'{path}:{line_of(text, match.start())}: space at the end of the line')
    return found


def executables(tree):
    """a script with #! can be run, in git's eyes too"""
    if tree.root is None:
        return [path for path, text in tree.files.items() if text.startswith('#!') and not path.startswith('x-')]
    root = Path(tree.root)
    return [f'{path}: has #! but no run bit' for path, text in tree.files.items()
            if text.startswith('#!') and (root / path).exists() and not (root / path).stat().st_mode & 0o100]


def one(path, text):
    return Tree({path: text})


HOST = 'deb.' + 'debian.org'
# (rule name, function, trees it must catch, trees it must pass)
RULES = [
    ('clang-format', clang_format, [one('vmm/a.cc', 'int  f( ){return 1;}\n')], [one('vmm/a.cc', 'int f() { return 1; }\n')]),
    ('shellcheck', shellcheck, [one('tests/a', '#!/bin/bash\ncd $1\nrm -rf $2/*\n')], [one('tests/a', '#!/bin/bash\necho "$1"\n')]),
    ('forbidden-names', forbidden_names,
     [one('README.md', f'deb http://{HOST}/debian\n'), one('tests/a', '#!/bin/bash\ncd /wo' + 'rk/main\n'), one('docs/a.md', 'see ../sha' + 'red/x\n')],
     [one('README.md', 'overlay: upper and /scratch/work\n')]),
    ('whitespace', whitespace, [one('vmm/a.cc', 'int a();'), one('vmm/a.cc', 'int a(); \n'), one('vmm/a.cc', 'int a();\n\n')],
     [one('vmm/a.cc', 'int a();\n')]),
    ('executables', executables, [one('tests/a', '#!/bin/bash\n')], [one('x-tests/a', '#!/bin/bash\n')]),
]

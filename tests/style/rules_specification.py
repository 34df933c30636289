"""The numbers of docs/specification.md: each is that of the constant its row names, and what holds it is there."""
import re

from source import Tree

SPECIFICATION = 'docs/specification.md'
CELLS = 4
UNITS = {'': 1, 'KiB': 1 << 10, 'MiB': 1 << 20, 'GiB': 1 << 30, 'TiB': 1 << 40, 's': 10**9, 'ms': 10**6, 'us': 10**3}
CHRONO = {'hours': 3600 * 10**9, 'minutes': 60 * 10**9, 'seconds': 10**9, 'milliseconds': 10**6, 'microseconds': 10**3,
          'nanoseconds': 1}
# The unit that a constant without a type of time has in its name.
NAMED_UNITS = {'Ns': 1, 'Us': 10**3, 'Ms': 10**6, 'Seconds': 10**9}
ARITHMETIC = re.compile(r'[0-9xa-fA-F.+\-*/<>() ]+')


def rows(text):
    """(line, cells) of each row of a table with four columns."""
    for number, line in enumerate(text.split('\n'), 1):
        cells = [cell.strip() for cell in line.strip().strip('|').split('|')]
        if line.startswith('|') and len(cells) == CELLS and cells[0] != 'what' and set(cells[0]) != {'-'}:
            yield number, cells


def written(text, name):
    """The expression that a constant or a field (Struct.field) is set to in this source; None: it is not there."""
    if '.' in name:
        struct, name = name.split('.')
        start = re.search(rf'\bstruct {struct}\b', text)
        if start is None:
            return None
        text = text[start.end():]
        text = text[:text.find('\n};')]
    found = (re.search(rf'^{name} = ([^#;\n]+)$', text, re.M)  # of a Python program
             or re.search(rf'\b{name}\s*(?:=\s*([^;]+);|\(([^;]+)\);|\{{([^;]+)\}};)', text))
    return next((group for group in found.groups() if group is not None), None) if found else None


def value_of(tree, path, name, depth=0):
    """What the constant is, times in nanoseconds; None where that cannot be told."""
    expression = written(tree.files.get(path, ''), name)
    if expression is None or depth > 4:
        return None
    is_time = 'std::chrono' in expression or re.search(rf'chrono::\w+ {name}\b', tree.files[path]) is not None
    text = re.sub(r'//[^\n]*', '', expression)
    text = re.sub(r'(?<=[0-9a-fA-F])\'(?=[0-9a-fA-F])', '', text)
    text = re.sub(r'std::chrono::(\w+)\((\d+)\)', lambda m: f'({m.group(2)} * {CHRONO[m.group(1)]})', text)
    text = re.sub(r'\b(?:u?int\d+_t|size_t)\{(\w+)\}', r'\1', text)
    text = re.sub(r'\b(0x[0-9a-fA-F]+|\d+)[uUlL]+\b', r'\1', text)

    def constant(match):
        known = value_of(tree, path, match.group(0), depth + 1)
        return str(known) if known is not None else match.group(0)
    text = re.sub(r'\bk[A-Z]\w+', constant, text).strip()
    if not ARITHMETIC.fullmatch(text):
        return None
    try:
        value = eval(text.replace('/', '//'), {'__builtins__': {}})  # digits and operators only
    except (SyntaxError, ZeroDivisionError):
        return None
    unit = next((factor for end, factor in NAMED_UNITS.items() if name.endswith(end)), 1)
    return value if is_time else value * unit


def figure_of(cell):
    match = re.match(r'([\d,.]+)(?: (\w+))?$', cell)
    if match is None or (match.group(2) or '') not in UNITS:
        return None
    return float(match.group(1).replace(',', '')) * UNITS[match.group(2) or '']


def joined(text):
    """The text with string literals that follow each other as one."""
    return re.sub(r'"\s*\n\s*"', '', text)


def home_findings(tree, where, figure, home):
    parts = re.findall(r'`([^`]+)`', home)
    if not parts or parts[0] not in tree.files:
        return [f'{where}: its home is no file: {home}']
    if len(parts) == 1:
        return []
    value = value_of(tree, parts[0], parts[1])
    if value is None:
        return [f'{where}: {parts[0]} has no {parts[1]} that can be computed']
    if figure_of(figure) is None:
        return [f'{where}: "{figure}" is no figure that can be compared']
    return [] if figure_of(figure) == value else [f'{where}: it says {figure}, {parts[0]} {parts[1]} is {value}']


def holder_findings(tree, where, held):
    found = []
    if '**untested**' not in held and '`' not in held:
        found.append(f'{where}: nothing holds it, and it does not say so')
    for path, name in re.findall(r'`([^`]+)`(?: "([^"]+)")?', held):
        if path not in tree.files:
            found.append(f'{where}: there is no {path}')
        elif name and f'"{name}' not in joined(tree.files[path]):
            found.append(f'{where}: {path} has no test "{name}..."')
    return found


def specification(tree):
    """each number of docs/specification.md is that of the code, and the tests it names are there"""
    found = []
    for line, (_, figure, home, held) in rows(tree.files.get(SPECIFICATION, '')):
        where = f'{SPECIFICATION}:{line}'
        found += home_findings(tree, where, figure, home) + holder_findings(tree, where, held)
    return found


def example(row, code='struct A {\n  std::chrono::milliseconds t = std::chrono::seconds(2);\n};\n'
            'inline constexpr uint32_t kHalf = 4;\ninline constexpr size_t kMost = uint64_t{2} * kHalf << 10;  // why\n'):
    return Tree({SPECIFICATION: f'| what | figure | home | held by |\n| --- | --- | --- | --- |\n{row}\n', 'vmm/a.h': code,
                 'bench/a.py': 'BAR = 3.0\nprint(";")\n', 'tests/a_test.cc': 'TEST_CASE(\n    "a thing is "\n    "held") {}\n'})


RULES = [
    ('specification', specification,
     [example('| a | 9 KiB | `vmm/a.h` `kMost` | `tests/a_test.cc` |'),
      example('| a | 8 KiB | `vmm/a.h` `kMore` | `tests/a_test.cc` |'),
      example('| a | 8 KiB | `vmm/b.h` `kMost` | `tests/a_test.cc` |'),
      example('| a | 3 s | `vmm/a.h` `A.t` | `tests/a_test.cc` |'),
      example('| a | many | `vmm/a.h` `kMost` | `tests/a_test.cc` |'),
      example('| a | 8 KiB | `vmm/a.h` `kMost` | `tests/b_test.cc` |'),
      example('| a | 4 | `bench/a.py` `BAR` | `tests/a_test.cc` |'),
      example('| a | 8 KiB | `vmm/a.h` `kMost` | `tests/a_test.cc` "a thing is lost" |'),
      example('| a | 8 KiB | `vmm/a.h` `kMost` | somebody |')],
     [example('| a | 8 KiB | `vmm/a.h` `kMost` | `tests/a_test.cc` "a thing is held" |'),
      example('| a | 3 | `bench/a.py` `BAR` | `tests/a_test.cc` |'),
      example('| a | 2 s | `vmm/a.h` `A.t` | **untested** |')]),
]

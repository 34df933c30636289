"""Reads the tree and C++ sources: comments and strings blanked, functions found, statements at namespace scope.

No parser: the sources are formatted by clang-format, which is checked too, so their shape is known.
"""
import re
import subprocess
from pathlib import Path

CPP = ('.cc', '.h', '.c')
CONTROL = re.compile(r'^(?:if|for|while|switch|catch|else|do|try|return|co_return)\b')
TYPE_HEAD = re.compile(r'(?:^|[>\s])(?:class|struct|union|enum)\b')
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.M)


class Tree:
    """All files that count: path -> text. From git where there is git, else from the folder."""

    def __init__(self, files, root=None):
        self.files = files
        self.root = root  # where the files lie; None for an example
        self._code = {}

    @staticmethod
    def read(root):
        root = Path(root)
        listed = subprocess.run(['git', '-C', str(root), 'ls-files', '-z', '-co', '--exclude-standard'],
                                capture_output=True, check=False)
        if listed.returncode == 0:
            names = [name for name in listed.stdout.decode().split('\0') if name]
        else:
            names = [str(path.relative_to(root)) for path in root.rglob('*') if not skip_folder(path.relative_to(root))]
        files = {}
        for name in sorted(set(names)):
            path = root / name
            if path.is_symlink() or not path.is_file():
                continue
            data = path.read_bytes()
            if b'\0' not in data[:8192]:
                files[name] = data.decode('utf-8', 'replace')
        return Tree(files, root)

    def cpp(self, *prefixes, without=()):
        return [name for name in self.files if name.endswith(CPP)
                and (not prefixes or name.startswith(prefixes)) and not (without and name.startswith(tuple(without)))]

    def code(self, name):
        if name not in self._code:
            self._code[name] = blank(self.files[name])
        return self._code[name]

    def includes(self, name):
        """(line, '<' or '"', path) of each include."""
        text = self.files[name]
        return [(line_of(text, m.start(2)), m.group(1), m.group(2)) for m in INCLUDE.finditer(text)]


def skip_folder(path):
    return any(part.startswith('build') or part in ('.git', '.deps', '__pycache__') for part in path.parts)


def line_of(text, position):
    return text.count('\n', 0, position) + 1


TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|R"([^()\\\s]*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|(?<![\w])\'(?:\\.|[^\'\\\n])+\'', re.S)


def blank(text):
    """The same text with comments and the insides of literals as spaces: lines and columns stay."""
    def spaces(match):
        piece = match.group(0)
        if piece.startswith('/'):
            return re.sub(r'[^\n]', ' ', piece)
        return piece[0] + re.sub(r'[^\n]', ' ', piece[1:-1]) + piece[-1]
    return TOKEN.sub(spaces, text)


class Block:
    """One pair of braces: kind is namespace, type, function, init or other."""

    def __init__(self, kind, head, head_start, start):
        self.kind, self.head, self.head_start, self.start, self.end = kind, head, head_start, start, -1


def classify(head, outer):
    head = re.sub(r'^\s*#[^\n]*(?:\\\n[^\n]*)*$', '', head, flags=re.M).strip()
    head = re.sub(r'^(?:public|private|protected)\s*:\s*', '', head)
    if re.match(r'(?:inline\s+)?namespace\b', head) or re.match(r'extern\s*""?', head) or re.match(r'extern\s*"\s*"$', head):
        return 'namespace'
    if outer in ('function', 'other', 'init'):
        return 'other'
    bare = re.sub(r'^template\s*<[^{;]*>\s*', '', head)
    if '(' not in bare or TYPE_HEAD.search(bare.split('(')[0]) and not bare.rstrip().endswith(')'):
        return 'type' if TYPE_HEAD.search(bare) else 'init'
    if re.search(r'[^=!<>]=[^=]', bare.split('(')[0] + ' ') and 'operator' not in bare:
        return 'init'
    if CONTROL.match(bare):
        return 'other'
    return 'function'


def blocks(code):
    """Every brace pair of blanked code, in order of opening."""
    code = re.sub(r'^[ \t]*#[^\n]*(?:\\\n[^\n]*)*', lambda m: re.sub(r'[^\n]', ' ', m.group(0)), code, flags=re.M)
    found, stack, head_start, parens, position = [], [], 0, 0, 0
    while position < len(code):
        c = code[position]
        if c == '(':
            parens += 1
        elif c == ')':
            parens = max(0, parens - 1)
        elif c == '{':
            head = code[head_start:position]
            if parens > 0 or is_initialiser(head):
                position = match_brace(code, position)
                continue
            outer = stack[-1].kind if stack else 'namespace'
            lead = len(head) - len(head.lstrip())
            block = Block(classify(head, outer), head.strip(), head_start + lead, position)
            found.append(block)
            stack.append(block)
            head_start = position + 1
        elif c == '}':
            if stack:
                stack.pop().end = position
            head_start = position + 1
        elif c == ';' and parens == 0:
            head_start = position + 1
        position += 1
    return [block for block in found if block.end >= 0]


def is_initialiser(head):
    """Is a brace after this head a member's or variable's initialiser? `Foo::Foo(int a) : a_` and `x = ` are."""
    head = head.rstrip()
    constructor = re.search(r'\)\s*(?:noexcept\s*)?:(?!:)', head)
    return bool(constructor and re.search(r'[\w>]$', head) and not re.search(r'\b(?:noexcept|const|override)$', head))


def match_brace(code, position):
    depth = 0
    while position < len(code):
        depth += {'{': 1, '}': -1}.get(code[position], 0)
        position += 1
        if depth == 0:
            break
    return position


def parameters(head):
    """How many parameters the function with this head takes."""
    head = re.sub(r'^template\s*<[^(]*?>\s*(?=[\w\[:])', '', head)
    start = head.find('(')
    if re.search(r'operator\s*$', head[:start]):
        start = head.find('(', start + 1)
    if start < 0:
        return 0
    depth, angle, count, last = 0, 0, 0, ''
    for i in range(start, len(head)):
        c = head[i]
        if c in '([{':
            depth += 1
        elif c in ')]}':
            depth -= 1
            if depth == 0:
                return count + (1 if last.strip() and last.strip() != 'void' else 0)
        elif c == '<' and i and (head[i - 1].isalnum() or head[i - 1] == '_'):
            angle += 1
        elif c == '>' and angle and head[i - 1] != '-':
            angle -= 1
        elif c == ',' and depth == 1 and angle == 0:
            count, last = count + 1, ''
            continue
        if depth >= 1 and not (c == '(' and depth == 1):
            last += c
    return count


def calls(code, names, bare=None):
    """(position, name) of calls of global functions: ::name(, std::name(, and name( where an expression or statement
    begins, so that neither methods nor declarations count. `bare`: the names that count without ::."""
    bare = set(names) if bare is None else bare
    pattern = re.compile(r'(?<![\w.>:])(std::|::)?(' + '|'.join(sorted(names, key=len, reverse=True)) + r')\s*\(')
    found = []
    for match in pattern.finditer(code):
        if match.group(1) is None:
            if match.group(2) not in bare:
                continue
            before = code[:match.start()].rstrip()
            word = re.search(r'(\w+)$', before)
            if word and word.group(1) not in ('return', 'else', 'do', 'co_return', 'case', 'and', 'or', 'not'):
                continue
            if before and not word and before[-1] in '*&>~' and not before.endswith(('&&', '->')):
                continue
        found.append((match.start(), match.group(2)))
    return found

"""Rules about what stands in a C++ source: sizes, casts, calls, globals, comments."""
import re

import table
from source import Tree, blocks, calls, line_of, parameters

ALLOW = re.compile(r'//\s*style: allow ([\w-]+): (\S.{8,})')
CODE_FOLDERS = ('include/', 'vmm/', 'devices/', 'lib/', 'examples/', 'fuzz/', 'bench/', 'tests/')


class Findings:
    """Collects findings of one rule, leaving out the excepted ones."""

    def __init__(self, rule, tree):
        self.rule, self.tree, self.list = rule, tree, []

    def add(self, path, line, text):
        if any(rule == self.rule and path.startswith(prefix) for rule, prefix in table.EXCEPTIONS):
            return
        lines = self.tree.files[path].split('\n')
        near = '\n'.join(lines[max(0, line - 2):line])
        allowed = ALLOW.search(near)
        if allowed and allowed.group(1) == self.rule and self.rule in table.INLINE_ALLOWED:
            return
        self.list.append(f'{path}:{line}: {text}')


def product(tree):
    return tree.cpp(*table.PRODUCT, without=table.GUEST)


def file_length(tree):
    """a file has at most 800 lines, tables marked as such excepted"""
    found = []
    for path, text in tree.files.items():
        if not path.endswith(('.cc', '.h', '.c', '.py', '.ts', '.js', '.go', '.rs', '.cmake', 'CMakeLists.txt')) and not text.startswith('#!'):
            continue
        lines = text.count('\n')
        if lines > table.FILE_LINES and table.TABLE_MARK not in '\n'.join(text.split('\n')[:12]):
            found.append(f'{path}: {lines} lines, at most {table.FILE_LINES}')
    return found


def functions(tree, paths):
    for path in paths:
        code = tree.code(path)
        for block in blocks(code):
            if block.kind == 'function':
                yield path, line_of(code, block.head_start), line_of(code, block.end), block


def function_length(tree):
    """a function has at most 100 lines"""
    found = Findings('function-length', tree)
    for path, first, last, block in functions(tree, tree.cpp(*CODE_FOLDERS)):
        if last - first + 1 > table.FUNCTION_LINES and not re.match(r'TEST_CASE|TEMPLATE_TEST_CASE', block.head):
            found.add(path, first, f'a function of {last - first + 1} lines: {short(block.head)}')
    return found.list


def short(head):
    return re.sub(r'\s+', ' ', head)[:70]


def parameter_count(tree):
    """a function takes at most 6 parameters"""
    found = Findings('parameters', tree)
    for path, first, _, block in functions(tree, tree.cpp(*CODE_FOLDERS)):
        count = parameters(block.head)
        if count > table.PARAMETERS:
            found.add(path, first, f'{count} parameters: {short(block.head)}')
    return found.list


REINTERPRET = re.compile(r'\breinterpret_cast\s*<\s*([^<>]*(?:<[^<>]*>)?[^<>]*?)\s*>')
C_CAST = re.compile(r'\(\s*(?:const\s+|volatile\s+|struct\s+)*[A-Za-z_][\w:]*(?:<[\w:, ]+>)?\s*(?:const\s*)?\*+\s*(?:const\s*)?\)\s*(?=[\w&*(])')
STATIC_CAST = re.compile(r'\bstatic_cast\s*<\s*(?:const\s+|volatile\s+)*([\w:]+)\s*\*\s*>\s*\(([^;]{0,80})')
GUEST_WORDS = re.compile(r'\b(?:guest_memory|memory_?|mapping_?|host_address|host_pointer|guest)\b')


def guest_casts(tree):
    """no typed pointer is made from raw bytes outside vmm/memory

    Found: a reinterpret_cast to a pointer (or reference) to anything but bytes, void and sockaddr; every C-style pointer
    cast; a static_cast from the void* of a mapping or of guest memory. Casts of pointers to integers are free.
    """
    found = Findings('guest-cast', tree)
    for path in tree.cpp(*table.PRODUCT, without=table.GUEST + table.CAST_HOMES):
        code = tree.code(path)
        at_home = next((types for home, types in table.CASTS_AT_HOME.items() if path.startswith(home)), None)
        for match in REINTERPRET.finditer(code):
            target = match.group(1).strip()
            if at_home and re.fullmatch(at_home + r' ?\*', target.replace('const ', '')):
                continue
            if target.endswith(('*', '&')):
                base = re.sub(r'\b(?:const|volatile)\b', '', target.rstrip('*& ')).strip()
                if base not in table.BYTE_TYPES or target.endswith('&'):
                    found.add(path, line_of(code, match.start()), f'reinterpret_cast<{target}>')
        for match in C_CAST.finditer(code):
            before = code[:match.start()].rstrip()
            if not re.search(r'[\w>]$', before) or before.endswith('return'):  # else parameters of a declaration
                found.add(path, line_of(code, match.start()), f'C-style cast {match.group(0).strip()}')
        for match in STATIC_CAST.finditer(code):
            if match.group(1) not in table.BYTE_TYPES and GUEST_WORDS.search(match.group(2)):
                found.add(path, line_of(code, match.start()), f'static_cast<{match.group(1)}*> of guest memory')
    return found.list


ENDING = 'abort exit _exit _Exit quick_exit terminate unreachable assert err errx __assert_fail'.split()
SIGNALLING = 'kill raise tgkill tkill killpg pidfd_send_signal'.split()
ENDING_MACRO = re.compile(r'\b(?:LOG|ABSL_LOG|ABSL_RAW_LOG)\s*\(\s*FATAL|\b(?:ABSL_)?D?CHECK(?:_\w+)?\s*\(|\bABSL_RAW_CHECK\s*\('
                          r'|\b__builtin_(?:trap|abort|unreachable)\b|\bValueOrDie\b')
THROW = re.compile(r'\bthrow\b(?!\s*\(\s*\)\s*[;{])')


def ends_process(tree):
    """nothing in the product can end the embedder's process or throw"""
    found = Findings('ends-process', tree)
    for path in tree.cpp(*table.PRODUCT, without=table.GUEST + table.OWN_PROCESS):
        code = tree.code(path)
        for position, name in calls(code, ENDING):
            found.add(path, line_of(code, position), f'{name}() can end the host process')
        for match in ENDING_MACRO.finditer(code):
            found.add(path, line_of(code, match.start()), f'{match.group(0).strip()} can end the host process')
        for match in THROW.finditer(code):
            found.add(path, line_of(code, match.start()), 'throw: errors are absl::Status')
    return found.list


def signals(tree):
    """nothing in the product sends a signal to a process, but for a stated reason (a child of its own)"""
    found = Findings('signals', tree)
    for path in product(tree):
        code = tree.code(path)
        for position, name in calls(code, SIGNALLING):
            if not re.match(r'(?:std::|::)?\w+\s*\(\s*\)', code[position:]):  # without arguments it is a method of the class
                found.add(path, line_of(code, position), f'{name}()')
    return found.list


OUTPUT = re.compile(r'\b(?:stderr|stdout)\b|\bwrite\w*\s*\(\s*STD(?:OUT|ERR)_FILENO\b|\bstd::(?:cerr|cout|clog|wcerr|wcout|print|println)\b')
PRINTING = 'printf fprintf vprintf vfprintf puts fputs putchar perror syslog dprintf'.split()


def output(tree):
    """the product prints nothing: its words go to the LogSink"""
    found = Findings('output', tree)
    for path in product(tree):
        code = tree.code(path)
        for match in OUTPUT.finditer(code):
            found.add(path, line_of(code, match.start()), match.group(0))
        for position, name in calls(code, PRINTING):
            found.add(path, line_of(code, position), f'{name}()')
    return found.list


CATCH_ALL = re.compile(r'\bcatch\s*\(\s*\.\.\.\s*\)')


def catch_all(tree):
    """catch (...) stands at the C ABI and at thread entries only"""
    found = Findings('catch-all', tree)
    for path in tree.cpp(*table.PRODUCT, without=table.GUEST + table.CATCH_ALL_HOMES):
        code = tree.code(path)
        for match in CATCH_ALL.finditer(code):
            found.add(path, line_of(code, match.start()), 'catch (...)')
    return found.list


NOT_VARIABLE = re.compile(r'^(?:using|typedef|extern|static_assert|template|friend|class|struct|enum|union|namespace|return|goto|'
                          r'public|private|protected|asm|RAMET_\w+|ABSL_\w+)\b')
CONSTANT = re.compile(r'\b(?:constexpr|consteval)\b|^(?:static\s+|inline\s+)*const\b(?![^=({]*\*\s*(?!const\b)\w+\s*(?:$|[={]))|\*\s*const\s+\w+')
VARIABLE = re.compile(r'^(?:(?:static|inline|thread_local|constinit|volatile|const|unsigned|struct)\s+)*[A-Za-z_][\w:]*(?:<.*>)?(?:\s*[*&]+\s*|\s+)'
                      r'(?:const\s+)?[A-Za-z_]\w*(?:\s*\[[^\]]*\])*\s*(?:$|=|\{)', re.S)
LOCAL_STATIC = re.compile(r'(?:^|[;{}])\s*((?:static|thread_local)\s+[^;{}()=]*?\b\w+\s*)(?=[;={(])', re.M)


def mutable_globals(tree):
    """no variable that can change lives longer than its owner: no mutable global, no static local, no thread_local"""
    found = Findings('mutable-global', tree)
    for path in product(tree):
        code = re.sub(r'^[ \t]*#[^\n]*(?:\\\n[^\n]*)*', lambda m: re.sub(r'[^\n]', ' ', m.group(0)), tree.code(path), flags=re.M)
        for position, text in namespace_statements(code):
            text = re.sub(r'\[\[.*?\]\]|\balignas\s*\([^)]*\)', ' ', text).strip()
            if NOT_VARIABLE.match(text) or CONSTANT.search(text) or '(' in re.split(r'[={]', text)[0]:
                continue
            if VARIABLE.match(text):
                found.add(path, line_of(code, position), f'at namespace scope: {short(text)}')
        for match in LOCAL_STATIC.finditer(code):
            text = match.group(1).strip()
            ends_in_call = code[match.end():match.end() + 1] == '('
            if not CONSTANT.search(text) and not ends_in_call and inside_braces(code, match.start(1)):
                found.add(path, line_of(code, match.start(1)), f'static: {short(text)}')
    return found.list


def inside_braces(code, position):
    """Is this position in a function or a type (rather than at namespace scope)?"""
    return any(b.kind != 'namespace' and b.start < position < b.end for b in blocks(code))


def namespace_statements(code):
    """(position, text) of every statement at namespace scope; the insides of braces become {}."""
    spans = [b for b in blocks(code) if b.kind == 'namespace']
    bounds = {b.start for b in spans} | {b.end for b in spans}
    position, start, text, result = 0, 0, '', []
    while position < len(code):
        c = code[position]
        if position in bounds or (c == ';'):
            if text.strip():
                result.append((start, text.strip()))
            text, start = '', position + 1
        elif c == '{':
            depth, end = 0, position
            while end < len(code):
                depth += {'{': 1, '}': -1}.get(code[end], 0)
                end += 1
                if depth == 0:
                    break
            function = re.search(r'\)\s*(?:const|noexcept|override|->[^{]*|:[^{]*)?\s*$', text)
            position = end
            if function or re.match(r'\s*(?:extern\s*""\s*)$', text):
                text, start = '', position
            else:
                text += '{}'
            continue
        else:
            if not text.strip():
                start = position
            text += c
        position += 1
    return result


def header_comment(tree):
    """a header opens with 3 or more lines on what it owns, its thread rule and its invariant"""
    found = []
    for path in tree.cpp('include/', *table.PRODUCT):
        if not path.endswith('.h'):
            continue
        lines = tree.files[path].lstrip('\n').split('\n')
        count = next((i for i, line in enumerate(lines) if not line.startswith(('//', '/*', ' *'))), len(lines))
        if count < table.HEADER_COMMENT_LINES:
            found.append(f'{path}:1: opens with {count} lines of comment, at least {table.HEADER_COMMENT_LINES}')
        elif 'thread' not in '\n'.join(lines[:count]).lower():
            found.append(f'{path}:1: its opening comment says nothing of threads')
    return found


def raw_syscalls(tree):
    """a system call that can fail goes through vmm/base/syscall.h, or through invoke() in its home"""
    found = Findings('raw-syscall', tree)
    for path in tree.cpp(*table.PRODUCT, without=table.GUEST + table.SHIM):
        code = tree.code(path)
        lines = code.split('\n')
        for position, name in calls(code, table.SYSTEM_CALLS, bare=table.DISTINCTIVE_CALLS):
            line = line_of(code, position)
            if not any('invoke(' in near for near in lines[max(0, line - 7):line]):
                found.add(path, line, f'::{name}() past the shim')
    return found.list


def one(path, text):
    return Tree({path: text})


def body(text):
    return one('vmm/base/a.cc', f'namespace ramet {{\nvoid f() {{\n  {text}\n}}\n}}  // namespace ramet\n')


LONG = 'void f() {\n' + '  g();\n' * 100 + '}\n'
LONG_LAMBDA = 'Foo::Foo(int a) : a_{a}, b_(1) {\n' + '  auto x = [&] {\n' + '    g();\n' * 99 + '  };\n}\n'
HEADER = '// Owns nothing.\n//\n// Thread rule: any.\n'
# (rule name, function, trees it must catch, trees it must pass)
RULES = [
    ('file-length', file_length, [one('vmm/a.cc', '\n' * 801), one('tests/x', '#!/bin/bash\n' + '\n' * 801)],
     [one('vmm/a.cc', '// style: table\n' + '\n' * 801), one('vmm/a.cc', '\n' * 800)]),
    ('function-length', function_length,
     [one('vmm/a.cc', f'namespace ramet {{\nnamespace {{\n{LONG}}}\n}}\n'), one('lib/a.cc', f'struct S {{\n{LONG}}};\n'),
      one('lib/a.cc', LONG_LAMBDA), one('vmm/a.cc', 'template <typename T>\n' + LONG),
      one('vmm/a.cc', 'extern "C" {\n' + LONG + '}\n')],
     [one('vmm/a.cc', 'namespace a {\n' + 'int f() { return 1; }\n' * 120 + '}\n'),
      one('vmm/a.cc', 'constexpr int kTable[] = {\n' + '    1,\n' * 200 + '};\n')]),
    ('parameters', parameter_count,
     [one('vmm/a.cc', 'int f(int a, int b, int c, int d, int e, int g, int h) { return 0; }\n'),
      one('vmm/a.cc', 'Foo::Foo(int a, int b, int c,\n         int d, int e, int g, int h)\n    : a_(a), b_{b} {}\n')],
     [one('vmm/a.cc', 'int f(std::map<int, int> a, std::function<void(int, int)> b, int c, int d, int e, int g) { return 0; }\n')]),
    ('guest-cast', guest_casts,
     [body('auto* d = reinterpret_cast<const Descriptor*>(p);'), body('auto& d = reinterpret_cast<Header&>(*p);'),
      one('vmm/kvm/a.cc', 'auto f() { return reinterpret_cast<Header*>(p); }\n'), body('auto* r = reinterpret_cast<kvm_run*>(p);'),
      body('auto* d = (struct header *)p;'), body('auto* d = static_cast<Header*>(memory.data());')],
     [body('auto* d = reinterpret_cast<const std::byte*>(&own);'), body('auto v = reinterpret_cast<uint64_t>(p);'),
      body('int x = f(a) * b; void g(char*);'), body('auto* s = static_cast<Self*>(argument);'),
      body('auto* d = reinterpret_cast<Header*>(p);  // style: allow guest-cast: our own mapping, never guest memory'),
      one('vmm/kvm/a.cc', 'auto f() { return reinterpret_cast<const kvm_run*>(p); }\n'),
      one('vmm/memory/a.cc', 'auto f() { return reinterpret_cast<Header*>(p); }\n')]),
    ('ends-process', ends_process,
     [body('std::abort();'), body('exit(1);'), body('if (x) ::_exit(1);'), body('assert(x > 0);'), body('LOG(FATAL) << 1;'),
      body('std::terminate();'), body('__builtin_trap();'), body('throw Bad();'),
      body('CHECK_EQ(a, b);')],
     [body('static_assert(sizeof(int) == 4);'), body('sandbox.kill(); box->kill();'), body('// abort() would be wrong'),
      one('lib/core/a.h', 'class A {\n  Status kill();\n  void exit(int);\n};\n'), one('lib/agent/guest/a.cc', 'void f() { _exit(1); }\n'),
      body('log("abort() seen");')]),
    ('signals', signals,
     [body('::kill(pid, SIGKILL);'), body('raise(SIGTERM);'), body('if (x) kill(pid_, 9);')],
     [body('kill();'), body('box.kill(1);'), body('// style: allow signals: a child process of our own\n  ::kill(pid_, SIGKILL);'),
      one('lib/agent/guest/a.cc', 'void f() { ::kill(1, 9); }\n')]),
    ('output', output,
     [body('std::cerr << 1;'), body('sys::write(STDERR_FILENO, text);'), body('fprintf(stderr, "x");'), body('printf("x");'), body('::perror("x");')],
     [body('std::snprintf(b, n, "x");'), body('::posix_spawn_file_actions_adddup2(&a, out, STDOUT_FILENO);'), body('// to stderr'), one('lib/agent/guest/a.cc', 'void f() { perror("x"); }\n')]),
    ('catch-all', catch_all, [body('try { g(); } catch (...) {}')],
     [one('lib/api/a.cc', 'void f() { try { g(); } catch (...) {} }\n'), body('try { g(); } catch (const E& e) {}')]),
    ('mutable-global', mutable_globals,
     [one('vmm/a.cc', 'namespace ramet {\nnamespace {\nint counter = 0;\n}\n}\n'), one('vmm/a.cc', 'std::atomic<int> armed{0};\n'),
      one('vmm/a.cc', 'static std::mutex mutex;\n'), one('vmm/a.cc', 'const char* name = "x";\n'), body('static int calls = 0;'),
      body('thread_local Foo foo;'), one('vmm/a.h', 'class A {\n  static inline int count_ = 0;\n};\n'),
      one('vmm/a.cc', 'std::map<int, std::string> names;\n')],
     [one('vmm/a.cc', 'namespace ramet {\nconstexpr int kA = 1;\nconst std::string_view kB = "b";\nint f(int a = 1);\nint g() { return 1; }\n'
          'class C;\nusing D = int;\nenum class E : int { kA };\nstruct S {\n  int a = 0;\n};\nextern template class F<int>;\n}\n'),
      one('vmm/a.cc', 'Foo::Foo(int a) : a_{a} {}\nint Foo::bar() const { return a_; }\n'),
      body('static const int kX = 1; static constexpr int kY[] = {1};'),
      one('vmm/a.h', 'class A {\n public:\n  static StatusOr<A> create(int a);\n  static constexpr int kB = 1;\n};\n'),
      one('vmm/a.cc', 'const char* const kName = "x";\nstatic_assert(sizeof(int) == 4);\n')]),
    ('header-comment', header_comment,
     [one('vmm/a.h', '#ifndef A\n'), one('vmm/a.h', '// One line.\n#ifndef A\n'), one('vmm/a.h', '// Owns.\n//\n// Invariant.\n#ifndef A\n')],
     [one('vmm/a.h', HEADER + '#ifndef A\n'), one('vmm/a.cc', 'int a();\n')]),
    ('raw-syscall', raw_syscalls,
     [body('int fd = ::open("x", 0);'), body('::ioctl(fd, 1, 2);'), body('void* p = mmap(nullptr, 1, 2, 3, 4, 5);'),
      body('return ::read(fd, b, n);')],
     [body('sys::open("x", 0);'), body('file.read(b, n);'), body('auto r = sys::invoke(Call::kMmap, OnEintr::kRetry,\n    [&] { return ::mmap(p); });'),
      one('vmm/base/syscall.cc', 'int f() { return ::open("x", 0); }\n')]),
]

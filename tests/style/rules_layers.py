"""Rules about who may include and link what."""
import re

import table
from source import Tree, line_of

COMPONENT = re.compile(r'\bramet_component\s*\(\s*([\w/]+)(.*?)\)', re.S)


def layer_of(path):
    return path.split('/')[0]


def at(path, line, text):
    return f'{path}:{line}: {text}'


def include_layers(tree):
    """an include goes down the layers: lib -> devices -> vmm, and include/ stands apart"""
    found = []
    for path in tree.cpp():
        layer = layer_of(path)
        if layer not in table.LAYERS:
            continue
        public, internal = [], []
        for line, kind, name in tree.includes(path):
            head = name.split('/')[0]
            if name.startswith('ramet/') or head == 'include':
                public.append((line, name))
                if layer not in table.PUBLIC_USERS:
                    found.append(at(path, line, f'{layer} includes <{name}>: the public headers are for {table.PUBLIC_USERS}'))
                elif kind == '"':
                    found.append(at(path, line, f'"{name}": a public header is written <ramet/...>'))
            elif head in table.LAYERS:
                internal.append((line, name))
                if head not in table.LAYERS[layer]:
                    found.append(at(path, line, f'{layer} includes "{name}" of {head}'))
                for closed in table.CLOSED.get(layer, ()):
                    if name.startswith(closed):
                        found.append(at(path, line, f'{layer} includes "{name}": {closed} is closed to it'))
            elif kind == '"' and layer in ('vmm', 'devices', 'lib') and not path.startswith(table.GUEST):
                found.append(at(path, line, f'"{name}": includes are written from the root of the checkout'))
        own_side = layer == 'lib' and not path.startswith(table.BOTH_SIDES)
        if own_side and public and internal:
            found.append(at(path, public[0][0], f'sees <{public[0][1]}> and "{internal[0][1]}": only {table.BOTH_SIDES} may see both sides'))
    return found


def public_headers(tree):
    """a public header includes the standard library, absl Status and <ramet/...> only"""
    found = []
    for path in tree.cpp('include/'):
        allowed_c = table.PUBLIC_C_HEADERS if path.endswith('/ramet.h') else ()
        for line, kind, name in tree.includes(path):
            standard = kind == '<' and re.fullmatch(r'[a-z_0-9]+', name)
            if not (standard or name in allowed_c or name in table.PUBLIC_FOREIGN or (kind == '<' and name.startswith('ramet/'))):
                found.append(at(path, line, f'a public header includes {name}'))
    return found


def foreign_homes(tree):
    """a foreign header is included in its home only"""
    found = []
    for path in tree.cpp(*table.HOMES_HOLD_IN, without=table.GUEST):
        for line, _, name in tree.includes(path):
            homes = table.HOMES.get(name)
            if homes and not path.startswith(homes) and not excepted('foreign-home', path):
                found.append(at(path, line, f'<{name}> has its home in {", ".join(homes)}'))
    return found


def excepted(rule, path):
    return any(name == rule and path.startswith(prefix) for name, prefix in table.EXCEPTIONS)


def components(tree):
    """component -> (CMakeLists.txt, line, the components it names in DEPS)"""
    result = {}
    for path, text in tree.files.items():
        if not path.endswith('CMakeLists.txt') or path == 'CMakeLists.txt':
            continue
        text = re.sub(r'#[^\n]*', '', text)
        for match in COMPONENT.finditer(text):
            words = match.group(2).split()
            deps, section = [], ''
            for word in words:
                if word in ('SOURCES', 'DEPS', 'LIBS'):
                    section = word
                elif section == 'DEPS':
                    deps.append(word)
            result[match.group(1)] = (path, line_of(text, match.start()), deps)
    return result


def cmake_layers(tree):
    """a CMake dependency goes down the layers, and the components make no circle"""
    found = []
    known = components(tree)
    for name, (path, line, deps) in known.items():
        if path != f'{name}/CMakeLists.txt':
            found.append(at(path, line, f'component {name} belongs into {name}/CMakeLists.txt'))
        for dep in deps:
            allowed = table.LAYERS.get(layer_of(name), set())
            closed = any(f'{dep}/'.startswith(prefix) for prefix in table.CLOSED.get(layer_of(name), ()))
            if layer_of(dep) not in allowed or closed:
                found.append(at(path, line, f'{name} depends on {dep}'))
    for name, (path, line, _) in known.items():
        if name in closure(known, name):
            found.append(at(path, line, f'{name} depends on itself through {", ".join(sorted(closure(known, name)))}'))
    return found


def closure(known, name):
    seen, todo = set(), list(known[name][2])
    while todo:
        dep = todo.pop()
        if dep not in seen:
            seen.add(dep)
            todo += known[dep][2] if dep in known else []
    return seen


def cmake_states_includes(tree):
    """what a component includes stands in its DEPS"""
    found = []
    known = components(tree)
    names = sorted(known, key=len, reverse=True)

    def component_of(path):
        return next((name for name in names if path.startswith(name + '/')), None)

    for path in tree.cpp(*table.PRODUCT, without=table.GUEST):
        own = component_of(path)
        if own is None:
            continue
        for line, kind, name in tree.includes(path):
            other = component_of(name) if kind == '"' else None
            if other and other != own and other not in known[own][2]:
                found.append(at(path, line, f'includes "{name}", but {own}/CMakeLists.txt does not name {other} in DEPS'))
    return found


def top_level(tree):
    """the top level holds what the house has, and nothing else"""
    names = {path.split('/')[0] for path in tree.files}
    return [f'{name}: not of the top level' for name in sorted(names) if not name.startswith('.') and name not in table.TOP_LEVEL]


def one(path, text):
    return Tree({path: text})


CMAKE = 'ramet_component({} SOURCES a.cc DEPS {})'
# (rule name, function, trees it must catch, trees it must pass)
RULES = [
    ('layers', include_layers,
     [one('vmm/base/a.cc', '#include "devices/virtio/queue.h"\n'),
      one('devices/block/a.cc', '#include "vmm/kvm/vm.h"\n'),
      one('devices/block/a.cc', '#include "lib/core/a.h"\n'),
      one('vmm/base/a.h', '#include <ramet/options.h>\n'),
      one('lib/core/a.cc', '#include <ramet/options.h>\n#include "vmm/base/status.h"\n'),
      one('examples/cli/a.cc', '#include "lib/core/builder.h"\n'),
      one('include/ramet/a.h', '#include "vmm/base/status.h"\n'),
      one('vmm/base/a.cc', '#include "status.h"\n')],
     [one('lib/api/a.cc', '#include <ramet/options.h>\n#include "vmm/base/status.h"\n'),
      one('lib/core/a.cc', '#include "devices/block/device.h"\n#include "vmm/kvm/vm.h"\n'),
      one('examples/cli/a.cc', '#include <ramet/sandbox.h>\n#include <CLI/CLI.hpp>\n#include "examples/cli/b.h"\n')]),
    ('public-headers', public_headers,
     [one('include/ramet/a.h', '#include <unistd.h>\n'), one('include/ramet/a.h', '#include <absl/strings/string_view.h>\n')],
     [one('include/ramet/a.h', '#include <vector>\n#include <absl/status/statusor.h>\n#include <ramet/b.h>\n'),
      one('include/ramet/ramet.h', '#include <stdint.h>\n')]),
    ('foreign-home', foreign_homes,
     [one('lib/core/a.cc', '#include <linux/kvm.h>\n'), one('vmm/memory/cow.cc', '#include <sys/mman.h>\n'),
      one('devices/block/a.cc', '#  include <sys/ioctl.h>\n')],
     [one('vmm/kvm/a.cc', '#include <linux/kvm.h>\n'), one('lib/agent/guest/a.cc', '#include <sys/ioctl.h>\n'),
      one('vmm/memory/mapping.cc', '#include <sys/mman.h>\n')]),
    ('cmake-layers', cmake_layers,
     [one('vmm/a/CMakeLists.txt', CMAKE.format('vmm/a', 'devices/virtio')),
      one('devices/a/CMakeLists.txt', CMAKE.format('devices/a', 'vmm/kvm')),
      one('vmm/b/CMakeLists.txt', CMAKE.format('vmm/a', 'vmm/base')),
      Tree({'vmm/a/CMakeLists.txt': CMAKE.format('vmm/a', 'vmm/b'), 'vmm/b/CMakeLists.txt': CMAKE.format('vmm/b', 'vmm/a')})],
     [one('lib/a/CMakeLists.txt', CMAKE.format('lib/a', 'devices/virtio vmm/kvm LIBS x::y'))]),
    ('cmake-deps', cmake_states_includes,
     [Tree({'vmm/a/CMakeLists.txt': CMAKE.format('vmm/a', 'vmm/base'), 'vmm/b/CMakeLists.txt': CMAKE.format('vmm/b', 'vmm/base'),
            'vmm/a/a.cc': '#include "vmm/b/b.h"\n'})],
     [Tree({'vmm/a/CMakeLists.txt': CMAKE.format('vmm/a', 'vmm/b'), 'vmm/b/CMakeLists.txt': CMAKE.format('vmm/b', 'vmm/base'),
            'vmm/a/a.cc': '#include "vmm/a/a.h"\n#include "vmm/b/b.h"\n'})]),
    ('top-level', top_level, [one('src/a.cc', '')], [one('vmm/a.cc', ''), one('.ci/run', '')]),
]

"""The house's rules as data: layers, homes of foreign headers, limits, exceptions. docs/design.md sections 2 and 3.

check.py applies them; rules_*.py hold the code. A rule changes here first.
"""

# Which layer may include which by a path from the checkout's root ("vmm/base/status.h").
LAYERS = {
    'include': set(),
    'vmm': {'vmm'},
    'devices': {'devices', 'vmm'},
    'lib': {'lib', 'devices', 'vmm'},
    'examples': {'examples'},
    'fuzz': {'fuzz', 'lib', 'devices', 'vmm', 'tests'},
    'bench': {'bench', 'lib', 'devices', 'vmm', 'tests'},
    'tests': {'tests', 'lib', 'devices', 'vmm', 'examples', 'bench'},
}
# Folders that are closed to a layer although their layer is open to it.
CLOSED = {
    'devices': ('vmm/kvm/',),
}
# Who may include the public headers, <ramet/...>.
PUBLIC_USERS = ('include', 'lib', 'examples', 'tests', 'bench')
# In lib only these folders see both the public headers and internals.
BOTH_SIDES = ('lib/api/',)

# Components that are programs of another machine: no rule about the host process holds for them.
GUEST = ('lib/agent/guest/', 'tests/guests/')
# Components that are programs of their own on the host: they may end their process.
OWN_PROCESS = ('lib/helper/program/',)
# The product: what runs inside the embedder's process.
PRODUCT = ('vmm/', 'devices/', 'lib/')

# Foreign header: where it lives. A value ending in / is a folder, another one the start of a file name.
HOMES = {
    'linux/kvm.h': ('vmm/kvm/',),
    'sys/ioctl.h': ('vmm/base/syscall.',),
    'sys/mman.h': ('vmm/memory/mapping.',),
    'seccomp.h': ('vmm/jail/',),
    'linux/seccomp.h': ('vmm/jail/',),
    'linux/landlock.h': ('vmm/jail/',),
    'linux/filter.h': ('vmm/jail/',),
    'sched.h': ('vmm/jail/',),
    'liburing.h': ('vmm/io/',),
    'linux/io_uring.h': ('vmm/io/',),
    'zstd.h': ('lib/store/',),
    'lzma.h': ('lib/image/',),
    'libkmod.h': ('lib/image/',),
    'linux/if_tun.h': ('devices/net/',),
    'slirp/libslirp.h': ('devices/net/',),
}
HOMES_HOLD_IN = ('include/', 'vmm/', 'devices/', 'lib/', 'examples/')

# What a public header may include besides <ramet/...> and the C++ standard library.
PUBLIC_FOREIGN = ('absl/status/status.h', 'absl/status/statusor.h')
# ramet.h is C11.
PUBLIC_C_HEADERS = ('stddef.h', 'stdint.h', 'stdbool.h')

FILE_LINES = 800
FUNCTION_LINES = 100
PARAMETERS = 6
HEADER_COMMENT_LINES = 3
# In a file's first 12 lines: it is a table, and its length has no limit.
TABLE_MARK = 'style: table'

# The whole top level; the user fixed it.
TOP_LEVEL = {'CMakeLists.txt', 'include', 'lib', 'vmm', 'devices', 'examples', 'fuzz', 'tests', 'bench', 'docs',
             'README.md', 'LICENSE'}

# Calls that can fail and so go through vmm/base/syscall.h, written with :: or without.
SYSTEM_CALLS = (
    'accept accept4 bind clock_nanosleep clone connect dup dup2 dup3 epoll_create1 epoll_ctl epoll_pwait epoll_wait '
    'eventfd execve execveat fallocate fchmod fchown fcntl fdatasync flock fork fstat fstatat fsync ftruncate getdents64 '
    'getrandom ioctl link linkat listen lseek lstat madvise memfd_create mincore mkdir mkdirat mlock mmap mount mprotect '
    'mremap msync open open_by_handle_at openat opendir pidfd_open pipe pipe2 poll ppoll prctl pread preadv preadv2 '
    'process_madvise pwrite pwritev pwritev2 read readdir readlink readv recv recvfrom recvmsg rename renameat renameat2 rmdir '
    'seccomp select send sendfile sendmsg sendto setns setrlimit signalfd socket socketpair splice stat statfs '
    'statx symlink syscall timerfd_create timerfd_settime truncate umount2 unlink unlinkat unshare userfaultfd '
    'vfork wait4 waitid waitpid write writev').split()
# Those whose bare name is no everyday method name.
DISTINCTIVE_CALLS = set(
    'epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd execve fdatasync getrandom ioctl madvise memfd_create mmap '
    'mprotect mremap munmap openat prctl preadv pwritev setrlimit socketpair syscall timerfd_create timerfd_settime '
    'unshare userfaultfd waitpid'.split())
# Where a raw call stands without invoke(): the shim itself, and the one close of UniqueFd.
SHIM = ('vmm/base/syscall.cc', 'vmm/base/unique_fd.')

# Types that a reinterpret_cast may point to: bytes of our own objects, and what the sockets API asks for.
BYTE_TYPES = {'char', 'unsigned char', 'std::byte', 'uint8_t', 'void', 'sockaddr', 'struct sockaddr'}
# Where pointers into guest memory may exist.
CAST_HOMES = ('vmm/memory/', 'vmm/base/syscall.')
# Types that one folder may cast to: the kernel's structs of KVM end in flexible arrays, and kvm_run is a mapped page; the kernel
# says at run time how large its seccomp_notif is. They are memory shared with the kernel, never with the guest.
CASTS_AT_HOME = {'vmm/kvm/': r'(?:struct )?kvm_\w+', 'vmm/jail/': r'seccomp_notif(?:_resp)?'}

# Where catch (...) may stand: the C ABI, and the entry of a thread.
CATCH_ALL_HOMES = ('lib/api/', 'vmm/base/thread.cc')

# (rule, path prefix): reason. An exception is a decision; the reason says whose and why.
EXCEPTIONS = {
    ('mutable-global', 'vmm/base/fault_plan.cc'):
        'the armed FaultPlan counts calls of threads that the test does not own, so no thread-local one would reach them; '
        'production code never arms it',
    ('raw-syscall', 'vmm/jail/enclosure.cc'):
        'each call goes through error_of(), which is invoke() and gives the errno alone: a list of steps reads better so',
}

# Rules that a line may be excepted from by a comment on it or on the line before:
#   // style: allow RULE: the reason
INLINE_ALLOWED = {'guest-cast', 'mutable-global', 'raw-syscall', 'parameters', 'function-length', 'catch-all', 'signals'}

# Names that no tracked file may hold: registries (apt's own configuration knows them), this workplace's paths.
# The patterns are escaped, so that this file does not match itself.
FORBIDDEN_NAMES = (
    r'\b(?:deb|security|snapshot|ftp|httpredir|cdn-fastly)\.(?:\w+\.)?debian\.org\b',
    r'\b(?:files\.)?pypi(?:\.python)?\.org\b', r'\bregistry\.npmjs\.org\b', r'\bregistry\.yarnpkg\.com\b',
    r'\b(?:static\.)?crates\.io\b', r'\bproxy\.golang\.org\b', r'\brubygems\.org\b',
    r'\b(?:registry-1|index|auth|hub)\.docker\.(?:io|com)\b', r'\bdocker\.io\b', r'\bghcr\.io\b', r'\bquay\.io\b',
    r'\bgcr\.io\b', r'\bhuggingface\.co\b',
    r'(?<![\w/.])/work/(?:main|shared|\.library)\b', r'\.\./shared\b', r'\.\./\.library\b', r'(?<![\w.])/tmp/(?:house|brief)\b',
)

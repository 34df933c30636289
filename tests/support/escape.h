// The escape drill: what somebody who runs code in one of Ramet's threads would try first.
//
// Thread rule: escape_attempts() on the test's thread; each attempt's call on the thread to be
// tried. Invariant: what an attempt opens stays open; "kill this process" does where it succeeds.
#ifndef RAMET_TESTS_SUPPORT_ESCAPE_H_
#define RAMET_TESTS_SUPPORT_ESCAPE_H_

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

namespace ramet::testing {

// TIOCSTI, TUNSETIFF and KVM_CREATE_VM: other ioctls than a vCPU thread's own.
inline constexpr std::array<unsigned long, 3> kOtherIoctls = {0x5412, 0x400454ca, 0xae01};

// The name of a socket that a test listens at while helpers try to reach it; behind a zero byte.
inline constexpr char kAbstractSocket[] = "ramet-test-outside";

struct EscapeAttempt {
  std::string what;
  std::function<long()> call;
};

inline std::vector<EscapeAttempt> escape_attempts() {
  const long parent = ::getppid();
  std::vector<EscapeAttempt> all = {
      {"open a file", [] { return ::syscall(SYS_open, "/etc/passwd", O_RDONLY); }},
      {"openat a file", [] { return ::syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY, 0); }},
      {"open /proc/self/mem",
       [] { return ::syscall(SYS_openat, AT_FDCWD, "/proc/self/mem", O_RDWR, 0); }},
      {"openat2", [] { return ::syscall(SYS_openat2, AT_FDCWD, "/etc/passwd", nullptr, 0); }},
      {"a socket", [] { return ::syscall(SYS_socket, AF_INET, SOCK_STREAM, 0); }},
      {"execve", [] { return ::syscall(SYS_execve, "/bin/true", nullptr, nullptr); }},
      {"execveat", [] { return ::syscall(SYS_execveat, -1, "/bin/true", nullptr, nullptr, 0); }},
      {"fork", [] { return ::syscall(SYS_fork); }},
      {"clone", [] { return ::syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, 0); }},
      {"clone3", [] { return ::syscall(SYS_clone3, nullptr, 0); }},
      {"ptrace", [] { return ::syscall(SYS_ptrace, PTRACE_ATTACH, 1, nullptr, nullptr); }},
      {"kill a process", [parent] { return ::syscall(SYS_kill, parent, 0); }},
      {"kill this process", [] { return ::syscall(SYS_tgkill, ::getpid(), ::gettid(), SIGKILL); }},
      {"signal another process",
       [parent] { return ::syscall(SYS_tgkill, parent, parent, SIGRTMIN + 6); }},
      {"mmap executable",
       [] {
         return ::syscall(SYS_mmap, nullptr, 4096, PROT_READ | PROT_EXEC,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
       }},
      {"mmap a file",
       [] { return ::syscall(SYS_mmap, nullptr, 4096, PROT_READ, MAP_PRIVATE, 0, 0); }},
      {"mprotect executable",
       [] { return ::syscall(SYS_mprotect, nullptr, 0, PROT_READ | PROT_EXEC); }},
      {"process_vm_readv",
       [] { return ::syscall(SYS_process_vm_readv, 1, nullptr, 0, nullptr, 0, 0); }},
      {"memfd_create", [] { return ::syscall(SYS_memfd_create, "x", 0); }},
      {"io_uring_setup", [] { return ::syscall(SYS_io_uring_setup, 1, nullptr); }},
      {"bpf", [] { return ::syscall(SYS_bpf, 0, nullptr, 0); }},
      {"another filter", [] { return ::syscall(SYS_seccomp, 1, 0, nullptr); }},
      {"another user", [] { return ::syscall(SYS_setuid, 0); }},
      {"a namespace", [] { return ::syscall(SYS_unshare, 0); }},
      {"a mount", [] { return ::syscall(SYS_mount, nullptr, nullptr, nullptr, 0, nullptr); }},
  };
  for (const unsigned long request : kOtherIoctls) {
    all.push_back({"ioctl " + std::to_string(request),
                   [request] { return ::syscall(SYS_ioctl, 0, request, nullptr); }});
  }
  return all;
}

// What a helper process would reach for if it had no filter: files, processes, the network. Each
// gives -1 where it reached nothing.
inline std::vector<EscapeAttempt> outside_attempts() {
  const auto connects = [](const void* address, size_t size, int family) -> long {
    const long fd = ::syscall(SYS_socket, family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    return fd < 0 ? -1 : ::syscall(SYS_connect, fd, address, size);
  };
  return {
      {"read /etc/passwd",
       [] { return ::syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY, 0); }},
      {"read the root directory", [] { return ::syscall(SYS_openat, AT_FDCWD, "/", O_RDONLY, 0); }},
      {"read what was the working directory",
       [] { return ::syscall(SYS_openat, AT_FDCWD, "../..", O_RDONLY, 0); }},
      {"write a file",
       [] { return ::syscall(SYS_openat, AT_FDCWD, "/x", O_CREAT | O_RDWR, 0600); }},
      {"open /proc/self/mem",
       [] { return ::syscall(SYS_openat, AT_FDCWD, "/proc/self/mem", O_RDWR, 0); }},
      {"make a directory", [] { return ::syscall(SYS_mkdirat, AT_FDCWD, "/d", 0700); }},
      {"signal another process",
       [] {
         long reached = -1;
         for (int pid = 1; pid < 100'000 && reached < 0; ++pid) {
           const bool thread_of_mine = ::syscall(SYS_tgkill, ::getpid(), pid, 0) == 0;
           reached = thread_of_mine ? -1 : ::syscall(SYS_kill, pid, 0);
         }
         return reached;
       }},
      {"trace another process",
       [] { return ::syscall(SYS_ptrace, PTRACE_ATTACH, 2, nullptr, nullptr); }},
      {"connect to the host",
       [connects] {
         const sockaddr_in host = {.sin_family = AF_INET,
                                   .sin_port = 0x1600,  // 22
                                   .sin_addr = {0x0100007f},
                                   .sin_zero = {}};
         return connects(&host, sizeof host, AF_INET);
       }},
      {"connect to an abstract socket of the host",
       [connects] {
         sockaddr_un host = {};
         host.sun_family = AF_UNIX;
         std::memcpy(host.sun_path + 1, kAbstractSocket, sizeof kAbstractSocket - 1);
         return connects(&host, offsetof(sockaddr_un, sun_path) + sizeof kAbstractSocket, AF_UNIX);
       }},
      {"mount", [] { return ::syscall(SYS_mount, "none", "/", "tmpfs", 0, nullptr); }},
      {"leave the root", [] { return ::syscall(SYS_chroot, "/proc/1/root"); }},
      {"change the host name", [] { return ::syscall(SYS_sethostname, "x", 1); }},
      {"raise a limit",
       [] {
         const rlimit more = {1 << 20, 1 << 20};
         return ::syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &more, nullptr);
       }},
      {"become another user", [] { return ::syscall(SYS_setuid, 12345); }},
  };
}

}  // namespace ramet::testing

#endif  // RAMET_TESTS_SUPPORT_ESCAPE_H_

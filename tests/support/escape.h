// The escape drill: what somebody who runs code in one of Ramet's threads would try first.
//
// Thread rule: escape_attempts() on the test's thread; each attempt's call on the thread to be
// tried. Invariant: what an attempt opens stays open; "kill this process" does where it succeeds.
#ifndef RAMET_TESTS_SUPPORT_ESCAPE_H_
#define RAMET_TESTS_SUPPORT_ESCAPE_H_

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <functional>
#include <string>
#include <vector>

namespace ramet::testing {

// TIOCSTI, TUNSETIFF and KVM_CREATE_VM: other ioctls than a vCPU thread's own.
inline constexpr std::array<unsigned long, 3> kOtherIoctls = {0x5412, 0x400454ca, 0xae01};

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

}  // namespace ramet::testing

#endif  // RAMET_TESTS_SUPPORT_ESCAPE_H_

#include "vmm/jail/syscall_name.h"

#include <seccomp.h>

#include <cstdlib>
#include <memory>

#include <absl/strings/str_format.h>

namespace ramet::jail {
namespace {

struct Free {
  void operator()(char* text) const { std::free(text); }
};

}  // namespace

RefusedCall describe(ThreadKind kind, const HeldCall& call) {
  RefusedCall result = {.thread = kind, .syscall = {}, .arguments = call.arguments};
  if (call.architecture == seccomp_arch_native()) {
    const std::unique_ptr<char, Free> name(
        seccomp_syscall_resolve_num_arch(call.architecture, call.number));
    if (name != nullptr) {
      result.syscall = name.get();
      return result;
    }
  }
  result.syscall = absl::StrFormat("number %d of table %#x", call.number, call.architecture);
  return result;
}

std::string describe(const RefusedCall& call) {
  return absl::StrFormat("a %s thread was refused the system call %s(%#x, %#x, %#x, %#x, %#x, %#x)",
                         std::string(name_of(call.thread)), call.syscall, call.arguments[0],
                         call.arguments[1], call.arguments[2], call.arguments[3], call.arguments[4],
                         call.arguments[5]);
}

}  // namespace ramet::jail

#include "vmm/jail/filter.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <span>
#include <string>

#include <absl/strings/str_format.h>

#include "vmm/base/syscall.h"
#include "vmm/memory/mapping.h"

namespace ramet::jail {
namespace {

static_assert(sizeof(BpfInstruction) == sizeof(sock_filter));
static_assert(offsetof(BpfInstruction, k) == offsetof(sock_filter, k));

// The largest, for the calls whose conditions are looked at on every KVM exit.
constexpr uint8_t kFirst = 255;

struct Release {
  void operator()(void* context) const { seccomp_release(context); }
};
using Context = std::unique_ptr<void, Release>;

// libseccomp answers 0 or a negative errno.
Status check(int result, std::string_view what) {
  return result >= 0 ? Status() : errno_status(-result, what);
}

uint32_t action_of(Refusal refusal) {
  switch (refusal) {
    case Refusal::kNotify:
      return SCMP_ACT_NOTIFY;
    case Refusal::kErrno:
      return SCMP_ACT_ERRNO(EPERM);
    case Refusal::kKill:
      break;
  }
  return SCMP_ACT_KILL_PROCESS;
}

StatusOr<Context> make_context(uint32_t action) {
  Context context(seccomp_init(action));
  if (context == nullptr) {
    return absl::InternalError("seccomp_init refused the filter's default action");
  }
  // The other system call tables (i386, x32) are no way around it.
  RAMET_RETURN_IF_ERROR(check(seccomp_attr_set(context.get(), SCMP_FLTATR_ACT_BADARCH, action),
                              "seccomp_attr_set(SCMP_FLTATR_ACT_BADARCH)"));
  return context;
}

Status add(scmp_filter_ctx context, const PolicyRow& row) {
  const std::string name(row.syscall);
  const int number = seccomp_syscall_resolve_name(name.c_str());
  if (number < 0) {
    return absl::InternalError(absl::StrFormat("no system call is called %s", name));
  }
  std::vector<scmp_arg_cmp> rules;
  for (const ArgumentRule& rule : row.rules) {
    rules.push_back(rule.mask == ~uint64_t{0}
                        ? scmp_arg_cmp{rule.index, SCMP_CMP_EQ, rule.value, 0}
                        : scmp_arg_cmp{rule.index, SCMP_CMP_MASKED_EQ, rule.mask, rule.value});
  }
  if (name == "ioctl") {
    RAMET_RETURN_IF_ERROR(check(seccomp_syscall_priority(context, number, kFirst),
                                "seccomp_syscall_priority(ioctl)"));
  }
  return check(seccomp_rule_add_exact_array(context, SCMP_ACT_ALLOW, number,
                                            static_cast<unsigned>(rules.size()), rules.data()),
               absl::StrFormat("seccomp rule for %s", name));
}

StatusOr<std::vector<BpfInstruction>> export_program(scmp_filter_ctx context) {
  RAMET_ASSIGN_OR_RETURN(const UniqueFd file, create_memfd("ramet-bpf", 0));
  RAMET_RETURN_IF_ERROR(check(seccomp_export_bpf(context, file.get()), "seccomp_export_bpf"));
  RAMET_ASSIGN_OR_RETURN(const uint64_t bytes, sys::file_size(file.get(), "stat a BPF program"));
  std::vector<BpfInstruction> program(bytes / sizeof(BpfInstruction));
  RAMET_RETURN_IF_ERROR(sys::pread_exactly(file.get(), std::as_writable_bytes(std::span(program)),
                                           0, "read a BPF program"));
  if (program.empty() || program.size() > BPF_MAXINSNS) {
    return absl::InternalError(absl::StrFormat("a BPF program of %d instructions", program.size()));
  }
  return program;
}

}  // namespace

StatusOr<Filter> Filter::compile(const Policy& policy, Refusal refusal) {
  RAMET_ASSIGN_OR_RETURN(const Context context, make_context(action_of(refusal)));
  for (const PolicyRow& row : policy) {
    RAMET_RETURN_IF_ERROR(add(context.get(), row));
  }
  RAMET_ASSIGN_OR_RETURN(auto program, export_program(context.get()));
  return Filter(std::move(program), refusal);
}

StatusOr<UniqueFd> Filter::install() const {
  const sys::Result no_new_privs = sys::invoke(sys::Call::kSeccomp, sys::OnEintr::kRetry, [] {
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  });
  RAMET_RETURN_IF_ERROR(no_new_privs.status("prctl(PR_SET_NO_NEW_PRIVS)"));
  std::vector<sock_filter> code;
  for (const BpfInstruction& one : program_) {
    code.push_back({one.code, one.jump_true, one.jump_false, one.k});
  }
  const sock_fprog program = {static_cast<uint16_t>(code.size()), code.data()};
  const unsigned flags = refusal_ == Refusal::kNotify ? SECCOMP_FILTER_FLAG_NEW_LISTENER : 0;
  const sys::Result installed = sys::invoke(sys::Call::kSeccomp, sys::OnEintr::kRetry, [&] {
    return ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
  });
  if (installed.error == EBUSY) {
    return absl::FailedPreconditionError(
        "another seccomp filter of this process has a listener already");
  }
  if (installed.error == EINVAL || installed.error == ENOSYS) {
    return absl::UnimplementedError("this kernel has no seccomp filters of the kind asked for");
  }
  RAMET_RETURN_IF_ERROR(installed.status("seccomp(SECCOMP_SET_MODE_FILTER)"));
  return refusal_ == Refusal::kNotify ? UniqueFd(static_cast<int>(installed.value)) : UniqueFd();
}

}  // namespace ramet::jail

#include <ramet/engine.h>
#include <ramet/host.h>

#include "examples/cli/commands.h"
#include "examples/cli/doctor_text.h"
#include "examples/cli/error.h"
#include "examples/cli/exit_code.h"
#include "examples/cli/json.h"

namespace cli {
namespace {

sandbox::HostReport inspect(const Arguments& arguments) {
  return sandbox::inspect_host(
      arguments.kvm_device.empty() ? sandbox::EngineOptions().kvm_device : arguments.kvm_device,
      arguments.cgroup);
}

}  // namespace

int command_doctor(const Context& context) {
  const sandbox::HostReport report = inspect(context.arguments);
  if (context.arguments.seccomp) {
    const int code = report.thread_policies.empty() ? kExitFailure : kExitOk;
    return print_result(context.arguments.json
                            ? json_text({{"thread_policies", host_json(report)["thread_policies"]}})
                            : seccomp_text(report),
                        code, kExitFailure);
  }
  const bool usable = report.usable();
  const int code = usable ? kExitOk : kExitFailure;
  if (!context.arguments.json) {
    return print_result(doctor_text(report, usable), code, kExitFailure);
  }
  Json document = host_json(report);
  document["usable"] = usable;
  return print_result(json_text(document), code, kExitFailure);
}

int command_version(const Context& context) {
  const std::string version = inspect(context.arguments).ramet_version;
  return print_result(
      context.arguments.json ? json_text({{"ramet_version", version}}) : "ramet " + version + "\n",
      kExitOk, kExitFailure);
}

}  // namespace cli

#include <ramet/host.h>

#include "examples/cli/commands.h"
#include "examples/cli/doctor_text.h"
#include "examples/cli/exit_code.h"
#include "examples/cli/json.h"
#include "examples/cli/output.h"

namespace cli {
namespace {

sandbox::HostReport inspect(const Arguments& arguments) {
  return arguments.kvm_device.empty() ? sandbox::inspect_host()
                                      : sandbox::inspect_host(arguments.kvm_device);
}

}  // namespace

int command_doctor(const Context& context) {
  const sandbox::HostReport report = inspect(context.arguments);
  const bool usable = report.usable();
  if (context.arguments.json) {
    Json document = host_json(report);
    document["usable"] = usable;
    print_out(json_text(document));
  } else {
    print_out(doctor_text(report, usable));
  }
  return usable ? kExitOk : kExitFailure;
}

int command_version(const Context& context) {
  const std::string version = inspect(context.arguments).ramet_version;
  print_out(context.arguments.json ? json_text({{"ramet_version", version}})
                                   : "ramet " + version + "\n");
  return kExitOk;
}

}  // namespace cli

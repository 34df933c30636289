#include "tests/support/place.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

namespace ramet::testing {
namespace {

std::string variable(const char* name, const std::string& otherwise) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): tests set no variables
  return value == nullptr || *value == '\0' ? otherwise : value;
}

bool processor_has_virtualisation() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    if (line.rfind("flags", 0) == 0) {
      line += ' ';
      return line.find(" vmx ") != std::string::npos || line.find(" svm ") != std::string::npos;
    }
  }
  return false;
}

}  // namespace

std::string source_dir() { return variable("RAMET_SOURCE_DIR", RAMET_DEFAULT_SOURCE_DIR); }

std::string deps_dir() { return variable("RAMET_DEPS", source_dir() + "/.deps"); }

std::string kernel_dir(const std::string& name) { return deps_dir() + "/kernels/" + name; }

std::string temp_root() { return variable("TMPDIR", "/tmp"); }

bool long_run() { return variable("RAMET_LONG", "0") == "1"; }

bool in_nested_machine() { return variable("RAMET_NESTED", "0") == "1"; }

KvmKind kvm_kind() {
  const int fd = ::open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (fd < 0) {
    return KvmKind::kNone;
  }
  ::close(fd);
  return processor_has_virtualisation() ? KvmKind::kHardware : KvmKind::kSoftware;
}

}  // namespace ramet::testing

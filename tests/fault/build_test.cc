// Template::build() while a system call fails. A boot takes seconds here, so calls are chosen:
// those of the preparation, and the first of each kind after it.
#include <cerrno>
#include <fstream>

#include "tests/fault/fault_sweep.h"
#include "tests/support/place.h"

namespace {

using namespace ramet::testing;
using ramet::sys::Call;

// A guest without disks: the shortest boot there is.
sandbox::TemplateOptions diskless() {
  sandbox::TemplateOptions options = small_guest("cloud-6.12");
  options.rootfs.clear();
  options.scratch_bytes = 0;
  return options;
}

struct Chosen {
  const char* name;
  Call call;
  uint64_t last;
};

// An engine's first build opens what it keeps: the figures of the host's memory.
void build_in_vain(sandbox::TemplateOptions options) {
  options.boot_timeout = std::chrono::milliseconds(10);
  CHECK_FALSE(sandbox::Template::build(options).ok());
}

}  // namespace

TEST_CASE("a system call that fails before the guest runs is a Status and leaves nothing") {
  RAMET_NEED_GUEST();
  // An image that no guest can mount: this build is to fail in every case.
  const std::string image = temp_root() + "/fault-root.img";
  std::ofstream(image) << std::string(1 << 20, 'x');
  sandbox::TemplateOptions options = diskless();
  options.rootfs = image;
  options.scratch_bytes = uint64_t{16} << 20;
  options.boot_timeout = std::chrono::seconds(1);
  build_in_vain(options);
  for (const Chosen& chosen :
       {Chosen{"open", Call::kOpen, 4}, Chosen{"spawn", Call::kSpawn, 1},
        Chosen{"pread", Call::kPread, 1}, Chosen{"lseek", Call::kLseek, 3},
        Chosen{"ftruncate", Call::kFtruncate, 2}, Chosen{"memfd", Call::kMemfdCreate, 1},
        Chosen{"mmap", Call::kMmap, 2}, Chosen{"thread", Call::kThreadCreate, 1},
        Chosen{"ioctl", Call::kIoctl, 12}, Chosen{"fcntl", Call::kFcntl, 1},
        Chosen{"getrandom", Call::kGetrandom, 1}}) {
    for (uint64_t n = 1; n <= chosen.last; ++n) {
      const ProcessCounts before = quiet_process();
      Fault fault(chosen.call, n, n % 2 == 0 ? EIO : ENOMEM);
      const absl::Status status = sandbox::Template::build(options).status();
      fault.disarm();
      const ProcessCounts after = settled_process(before);
      INFO(chosen.name << " " << n << ": " << status);
      CHECK(fault.fired());
      CHECK_FALSE(status.ok());
      CHECK(after.fds == before.fds);
      CHECK(after.threads == before.threads);
    }
  }
}

TEST_CASE("a system call that fails while the guest boots or is frozen is a Status") {
  RAMET_NEED_GUEST();
  sandbox::TemplateOptions options = diskless();
  options.boot_timeout = std::chrono::seconds(40);
  build_in_vain(options);
  for (const Chosen& chosen :
       {Chosen{"ioctl", Call::kIoctl, 300}, Chosen{"fallocate", Call::kFallocate, 1}}) {
    const ProcessCounts before = quiet_process();
    Fault fault(chosen.call, chosen.last, EIO);
    const absl::Status status = sandbox::Template::build(options).status();
    fault.disarm();
    const ProcessCounts after = settled_process(before);
    INFO(chosen.name << " " << chosen.last << ": " << status);
    CHECK(fault.fired());
    CHECK_FALSE(status.ok());
    CHECK(after.fds == before.fds);
    CHECK(after.threads == before.threads);
  }
  const auto built = sandbox::Template::build(options);
  RAMET_REQUIRE_OK(built);
}

#include "lib/core/template_builder.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>

#include "lib/agent/client.h"
#include "lib/agent/embedded.h"
#include "lib/core/boot.h"
#include "lib/core/root_disk.h"
#include "lib/core/vsock_byte_stream.h"
#include "lib/image/initramfs.h"
#include "lib/image/kernel_files.h"
#include "lib/image/scratch.h"
#include "lib/instance/reasons.h"
#include "vmm/base/clock.h"
#include "vmm/base/syscall.h"

namespace ramet {
namespace {

// console: the serial line; quiet: a kernel log costs an exit a byte. panic=-1 with reboot=acpi: a
// panic is a reset at once, which ends the machine with a reason. Huge pages: one fault of a fork
// would copy 512 pages (THP is "always" on Debian); programs may still ask for them.
constexpr char kCommandLine[] =
    "console=ttyS0 quiet panic=-1 reboot=acpi transparent_hugepage=madvise";
constexpr uint64_t kFreezeTimeoutNs = 30'000'000'000;
// Until what the guest has put off is done (RCU, work queues) and its tick is stopped: else each
// fork would begin with it. A sixteenth of a fork and of a reset (docs/adr/0011).
constexpr uint64_t kQuietNs = 500'000'000;

class Builder {
 public:
  Builder(Engine* engine, BuildSpec spec) : engine_(engine), spec_(std::move(spec)) {}

  StatusOr<std::shared_ptr<const TemplateData>> run();

 private:
  void step(std::string_view name);
  Status prepare();
  Status boot();
  Status warm_up();
  Status reseed();
  Status run_warmup(const std::vector<std::string>& argv);
  Status freeze();
  Status save();
  Status train();
  StatusOr<AgentClient> connect();
  // What a failed conversation means: the reason of the machine's end where it has ended.
  Status explain(const Status& status, std::string_view doing) const;

  Engine* const engine_;
  const BuildSpec spec_;
  uint32_t steps_done_ = 0;
  BootSpec boot_spec_;
  std::shared_ptr<TemplateData> data_ = std::make_shared<TemplateData>();
  // The layer that mke2fs made; the guest's first writes go over it.
  UniqueFd memory_;
  std::unique_ptr<Instance> instance_;
};

// Every file system's blocks that hold something, in units of the copy-on-write disk.
StatusOr<std::vector<block::BlockRun>> data_runs(int fd, uint64_t size) {
  std::vector<block::BlockRun> runs;
  for (uint64_t position = 0; position < size;) {
    const sys::Result data = sys::lseek(fd, static_cast<int64_t>(position), SEEK_DATA);
    if (data.error == ENXIO) {
      break;
    }
    RAMET_RETURN_IF_ERROR(data.status("lseek(SEEK_DATA) in the scratch image"));
    const sys::Result hole = sys::lseek(fd, data.value, SEEK_HOLE);
    RAMET_RETURN_IF_ERROR(hole.status("lseek(SEEK_HOLE) in the scratch image"));
    const uint64_t first = static_cast<uint64_t>(data.value) / block::kBlockBytes;
    const uint64_t end =
        (std::min(static_cast<uint64_t>(hole.value), size) + block::kBlockBytes - 1) /
        block::kBlockBytes;
    if (!runs.empty() && runs.back().first + runs.back().count >= first) {
      runs.back().count = end - runs.back().first;
    } else {
      runs.push_back({first, end - first});
    }
    position = end * block::kBlockBytes;
  }
  return runs;
}

StatusOr<std::shared_ptr<const block::LayerStack>> make_scratch(const std::string& directory,
                                                                uint64_t bytes) {
  RAMET_ASSIGN_OR_RETURN(UniqueFd file, make_scratch_image(directory, bytes));
  RAMET_ASSIGN_OR_RETURN(const auto runs, data_runs(file.get(), bytes));
  RAMET_ASSIGN_OR_RETURN(const auto empty, block::LayerStack::create(nullptr, bytes));
  RAMET_ASSIGN_OR_RETURN(auto layer, block::DiskFile::adopt(std::move(file), "scratch image",
                                                            block::Access::kReadOnly));
  return empty->with_layer(std::move(layer), runs);
}

void Builder::step(std::string_view name) {
  constexpr uint32_t kOtherSteps = 4;
  if (spec_.progress) {
    const auto total =
        kOtherSteps + (spec_.train ? 1 : 0) + static_cast<uint32_t>(spec_.warmups.size());
    spec_.progress(name, std::min(steps_done_, total), total);
  }
  ++steps_done_;
}

Status Builder::explain(const Status& status, std::string_view doing) const {
  if (status.ok()) {
    return status;
  }
  if (absl::IsDeadlineExceeded(status)) {
    const std::string console = instance_->console().last_lines(4);
    return with_reason(
        absl::DeadlineExceededError(absl::StrFormat(
            "%s: the guest did not answer in time; its console ends: %s", std::string(doing),
            console.empty() ? "(nothing was printed)" : console)),
        reason::kGuestHung);
  }
  return annotate(status, doing);
}

Status Builder::prepare() {
  step("prepare");
  RAMET_ASSIGN_OR_RETURN(RootDisk root, open_root_disk(spec_.rootfs));
  auto kernel = find_kernel(spec_.kernel_image, spec_.kernel_tree);
  if (!kernel.ok()) {
    return with_reason(kernel.status(), reason::kBadKernel);
  }
  auto image = read_kernel_image(kernel->image);
  if (!image.ok()) {
    return with_reason(image.status(), reason::kBadKernel);
  }
  InitramfsSpec initramfs;
  initramfs.agent = agent_binary();
  initramfs.modules_folder = kernel->modules;
  RAMET_ASSIGN_OR_RETURN(boot_spec_.initrd, build_initramfs(initramfs));
  boot_spec_.kernel = std::move(*image);
  boot_spec_.kernel_name = kernel->image;
  data_->root = root.reference;
  data_->disks.root = std::move(root.file);
  if (spec_.scratch_bytes != 0 && data_->disks.root != nullptr) {
    RAMET_ASSIGN_OR_RETURN(data_->disks.scratch,
                           make_scratch(engine_->scratch_directory(), spec_.scratch_bytes));
  }
  boot_spec_.command_line = kCommandLine;
  if (data_->disks.root == nullptr) {
    boot_spec_.command_line += " ramet.root=initramfs";
  }
  if (!spec_.extra_command_line.empty()) {
    boot_spec_.command_line += " " + spec_.extra_command_line;
  }
  boot_spec_.memory_bytes = spec_.memory_bytes;
  boot_spec_.vcpus = spec_.vcpus;
  boot_spec_.instance = {.disks = data_->disks, .console = spec_.console};
  return Status();
}

Status Builder::boot() {
  step("boot");
  const uint64_t deadline = monotonic_ns() + spec_.boot_timeout_ns;
  RAMET_ASSIGN_OR_RETURN(BootedInstance booted, prepare_boot(engine_, std::move(boot_spec_)));
  memory_ = std::move(booted.memory);
  instance_ = std::move(booted.instance);
  instance_->on_end([](const Status&) {});  // wakes the vsock's streams
  VsockHost vsock = instance_->vsock();
  RAMET_RETURN_IF_ERROR(vsock.listen(wire::kReadyPort));
  RAMET_RETURN_IF_ERROR(instance_->resume());
  auto stream = vsock.accept(wire::kReadyPort, deadline);
  RAMET_RETURN_IF_ERROR(explain(stream.status(), "boot"));
  AgentClient client(std::make_unique<VsockByteStream>(std::move(*stream)));
  const auto agent = client.handshake(deadline);
  RAMET_RETURN_IF_ERROR(explain(agent.status(), "boot: the agent's greeting"));
  data_->kernel_release = printable(agent->kernel_release);
  return reseed();
}

StatusOr<AgentClient> Builder::connect() {
  RAMET_ASSIGN_OR_RETURN(auto stream, instance_->vsock().start_connect(wire::kAgentPort));
  return AgentClient(std::make_unique<VsockByteStream>(std::move(stream)));
}

// The wall clock and the host's entropy; the boot's own seed came with the kernel.
Status Builder::reseed() {
  RAMET_ASSIGN_OR_RETURN(const auto reseed, make_reseed("ramet"));
  RAMET_ASSIGN_OR_RETURN(AgentClient client, connect());
  return explain(client.reseed(reseed, monotonic_ns() + spec_.boot_timeout_ns), "first reseed");
}

Status Builder::warm_up() {
  for (const auto& argv : spec_.warmups) {
    step("warm up");
    RAMET_RETURN_IF_ERROR(run_warmup(argv));
  }
  return Status();
}

Status Builder::run_warmup(const std::vector<std::string>& argv) {
  const std::string doing = "warm-up command " + absl::StrJoin(argv, " ");
  RAMET_ASSIGN_OR_RETURN(AgentClient client, connect());
  ExecSpec exec;
  exec.argv = argv;
  exec.env = default_environment();
  exec.timeout_ns = spec_.warmup_timeout_ns;
  const auto outcome = client.exec(exec);
  RAMET_RETURN_IF_ERROR(explain(outcome.status(), doing));
  const bool exited = outcome->kind == ExecOutcome::Kind::kExited;
  if (outcome->timed_out || !exited || outcome->exit_code != 0) {
    const std::string how = outcome->timed_out
                                ? absl::StrFormat("ran over its %d ms", exec.timeout_ns / 1'000'000)
                            : exited ? absl::StrFormat("exited with %d", outcome->exit_code)
                                     : absl::StrFormat("was ended by signal %d", outcome->signal);
    constexpr size_t kShown = 400;
    const std::string& said = outcome->stderr_data;
    return absl::FailedPreconditionError(
        absl::StrFormat("%s %s; it said: %s", doing, how,
                        printable(said.substr(said.size() > kShown ? said.size() - kShown : 0))));
  }
  return Status();
}

Status Builder::freeze() {
  step("freeze");
  RAMET_ASSIGN_OR_RETURN(AgentClient client, connect());
  const auto reply = client.freeze(monotonic_ns() + kFreezeTimeoutNs);
  RAMET_RETURN_IF_ERROR(explain(reply.status(), "freeze"));
  if (reply->live_count != 0) {
    return with_reason(
        absl::FailedPreconditionError(absl::StrFormat(
            "the template is not frozen, for processes still live in it: %s; let the warm-up end "
            "them",
            list_processes(*reply))),
        reason::kProcessesAlive);
  }
  std::this_thread::sleep_for(std::chrono::nanoseconds(kQuietNs));
  return Status();
}

Status Builder::save() {
  step("save");
  RAMET_ASSIGN_OR_RETURN(data_->state, instance_->save());
  RAMET_ASSIGN_OR_RETURN(data_->disks.scratch, instance_->freeze_scratch());
  // The memory can be sealed only when nothing maps it for writing any more.
  instance_.reset();
  RAMET_ASSIGN_OR_RETURN(data_->memory,
                         MemoryImage::freeze(std::move(memory_), spec_.memory_bytes));
  data_->created_unix_seconds = realtime_ns() / 1'000'000'000;
  return Status();
}

Status Builder::train() {
  if (!spec_.train) {
    return Status();
  }
  step("train");
  RAMET_ASSIGN_OR_RETURN(data_->working_set, spec_.train(*data_));
  return Status();
}

StatusOr<std::shared_ptr<const TemplateData>> Builder::run() {
  RAMET_RETURN_IF_ERROR(prepare());
  RAMET_RETURN_IF_ERROR(boot());
  RAMET_RETURN_IF_ERROR(warm_up());
  RAMET_RETURN_IF_ERROR(freeze());
  RAMET_RETURN_IF_ERROR(save());
  RAMET_RETURN_IF_ERROR(train());
  step("done");
  return std::shared_ptr<const TemplateData>(std::move(data_));
}

}  // namespace

StatusOr<std::shared_ptr<const TemplateData>> build_template(Engine* engine, BuildSpec spec) {
  RAMET_RETURN_IF_ERROR(annotate(engine->check_runs_linux(), "build template"));
  // A template is more than a fork: all of its memory is its own.
  RAMET_RETURN_IF_ERROR(
      annotate(engine->admit(monotonic_ns() + spec.boot_timeout_ns), "build template"));
  auto data = Builder(engine, std::move(spec)).run();
  if (!data.ok()) {
    return annotate(data.status(), "build template");
  }
  return data;
}

Status check_fits(const Engine& engine, const TemplateData& data) {
  RAMET_RETURN_IF_ERROR(engine.check_runs_linux());
  return with_reason(
      x86::check_compatible(data.state.machine.cpuid, engine.kvm()->supported_cpuid()),
      reason::kIncompatible);
}

std::vector<std::string> default_environment() {
  return {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
          "LANG=C.UTF-8", "TERM=dumb"};
}

}  // namespace ramet

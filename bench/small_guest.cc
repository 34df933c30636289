#include "bench/small_guest.h"

#include <array>
#include <chrono>
#include <cstring>
#include <functional>
#include <future>
#include <span>
#include <thread>

#include "lib/agent/wire.h"
#include "lib/core/boot.h"
#include "lib/fork/fork.h"
#include "vmm/base/clock.h"

namespace ramet::bench {
namespace {

constexpr uint64_t kCode = 0x10'0000;
constexpr uint64_t kGiveUpNs = 10'000'000'000;

// mov dx, kResetPort; mov al, kResetValue; out dx, al; then HLT for ever.
constexpr std::array<uint8_t, 10> kProgram = {
    0x66, 0xba, x86::kResetPort & 0xff, x86::kResetPort >> 8, 0xb0, x86::kResetValue, 0xee, 0xf4,
    0xeb, 0xfd};

// mov dx, kSerialPort; mov al, newline; out dx, al; then HLT for ever.
constexpr std::array<uint8_t, 10> kAnswerer = {
    0x66, 0xba, x86::kSerialPort & 0xff, x86::kSerialPort >> 8, 0xb0, '\n', 0xee, 0xf4, 0xeb, 0xfd};

constexpr uint64_t kWritten = 0x20'0000;
constexpr size_t kPagesAt = 6;
// mov edi, kWritten; mov ecx, pages; mov [rdi], rdi; add rdi, 4096; dec rcx; jnz; then HLT for
// ever.
constexpr std::array<uint8_t, 28> kWriter = {
    0xbf, 0x00, 0x00, 0x20, 0x00, 0xb9, 0x00, 0x00, 0x00, 0x00, 0x48, 0x89, 0x3f, 0x48,
    0x81, 0xc7, 0x00, 0x10, 0x00, 0x00, 0x48, 0xff, 0xc9, 0x75, 0xf1, 0xf4, 0xeb, 0xfd};

Status write(const GuestMemory& memory, uint64_t address, const std::vector<std::byte>& bytes) {
  return memory.write(GuestAddr{address}, bytes);
}

// Until its first exit, which ends it.
Status wait_reset(Instance& instance) {
  const auto end = instance.machine().wait_end(monotonic_ns() + kGiveUpNs);
  if (!end || end->reason != EndReason::kReset) {
    return absl::InternalError("the small guest did not write the reset port: " +
                               (end ? end->detail : std::string("it still runs")));
  }
  return Status();
}

// As SandboxLife gives away the machine of a sandbox that was killed.
void reap(Engine* engine, std::unique_ptr<Instance> instance, std::function<void()> then) {
  // std::function wants something that can be copied.
  engine->reap([instance = std::shared_ptr<Instance>(std::move(instance)),
                then = std::move(then)]() mutable {
    instance.reset();
    then();
  });
}

}  // namespace

StatusOr<std::shared_ptr<const TemplateData>> make_program_template(
    Engine* engine, uint64_t memory_bytes, std::span<const uint8_t> program) {
  RAMET_ASSIGN_OR_RETURN(const auto regions, memory_regions(memory_bytes));
  RAMET_ASSIGN_OR_RETURN(UniqueFd file, create_memfd("ramet-bench", memory_bytes));
  RAMET_ASSIGN_OR_RETURN(auto memory, GuestMemory::create(file.get(), regions, MapMode::kShared));
  RAMET_RETURN_IF_ERROR(write(*memory, x86::kBootPageTablesAddress, x86::build_boot_page_tables()));
  RAMET_RETURN_IF_ERROR(write(*memory, x86::kBootGdtAddress, x86::build_boot_gdt()));
  RAMET_RETURN_IF_ERROR(memory->write(GuestAddr{kCode}, std::as_bytes(program)));
  RAMET_ASSIGN_OR_RETURN(auto instance,
                         Instance::create(engine->instance_host(), std::move(memory), 1, {}));
  RAMET_RETURN_IF_ERROR(instance->machine().set_entry(x86::build_entry_state(kCode)));
  auto data = std::make_shared<TemplateData>();
  RAMET_ASSIGN_OR_RETURN(data->state, instance->save());
  instance.reset();
  RAMET_ASSIGN_OR_RETURN(data->memory, MemoryImage::freeze(std::move(file), memory_bytes));
  return std::shared_ptr<const TemplateData>(std::move(data));
}

namespace {

// The last page that it writes to.
GuestAddr last_written(uint64_t pages) { return {kWritten + (pages - 1) * kPageSize}; }

}  // namespace

StatusOr<std::shared_ptr<const TemplateData>> make_small_template(Engine* engine,
                                                                  uint64_t memory_bytes) {
  return make_program_template(engine, memory_bytes, kProgram);
}

StatusOr<std::shared_ptr<const TemplateData>> make_writer_template(Engine* engine,
                                                                   uint64_t memory_bytes,
                                                                   uint64_t pages) {
  auto program = kWriter;
  const auto count = static_cast<uint32_t>(pages);
  std::memcpy(program.data() + kPagesAt, &count, sizeof count);
  return make_program_template(engine, memory_bytes, program);
}

StatusOr<std::shared_ptr<const TemplateData>> make_answering_template(Engine* engine,
                                                                      uint64_t memory_bytes) {
  return make_program_template(engine, memory_bytes, kAnswerer);
}

StatusOr<std::unique_ptr<ForkedMachine>> fork_answering(Engine* engine, const TemplateData& from,
                                                        ForkSpec spec) {
  auto answered = std::make_shared<std::promise<void>>();
  spec.console = [answered](std::string_view /*line*/) { answered->set_value(); };
  spec.first_port = wire::kAgentPort;  // as for a guest that has an agent
  RAMET_ASSIGN_OR_RETURN(const GenerationId generation, new_generation_id());
  RAMET_ASSIGN_OR_RETURN(auto machine, fork_machine(engine, from, generation, spec));
  RAMET_ASSIGN_OR_RETURN(const auto conversation, machine->ports()->connect(spec.first_port));
  RAMET_RETURN_IF_ERROR(machine->resume());
  if (answered->get_future().wait_for(std::chrono::nanoseconds(kGiveUpNs)) !=
      std::future_status::ready) {
    return absl::InternalError("the small guest did not answer");
  }
  if (spec.shells != nullptr) {
    spec.shells->refill();
  }
  return machine;
}

Status wait_written(Instance& instance, uint64_t pages) {
  // Polled, but not so often that it matters to the guest, and at last a moment for its HLT.
  constexpr std::chrono::microseconds kLook(50);
  constexpr std::chrono::microseconds kToSleep(200);
  const uint64_t deadline = monotonic_ns() + kGiveUpNs;
  while (monotonic_ns() < deadline) {
    RAMET_ASSIGN_OR_RETURN(const auto last,
                           instance.machine().memory().read_object<uint64_t>(last_written(pages)));
    if (last != 0) {
      std::this_thread::sleep_for(kToSleep);
      return Status();
    }
    std::this_thread::sleep_for(kLook);
  }
  return absl::DeadlineExceededError("the small guest did not write to its pages");
}

StatusOr<SmallFork> fork_small_once(Engine* engine, const TemplateData& from,
                                    const InstanceLimits& limits, std::unique_ptr<Machine> shell) {
  const uint64_t start = monotonic_ns();
  RAMET_ASSIGN_OR_RETURN(const GenerationId generation, new_generation_id());
  RAMET_ASSIGN_OR_RETURN(auto instance, restore_instance(engine, from, generation,
                                                         {.limits = limits}, std::move(shell)));
  SmallFork times;
  times.shell_ready = monotonic_ns() - start;
  RAMET_RETURN_IF_ERROR(instance->resume());
  RAMET_RETURN_IF_ERROR(wait_reset(*instance));
  times.first_exit = instance->machine().first_exit_ns() - start;
  const uint64_t before = monotonic_ns();
  std::promise<void> gone;
  reap(engine, std::move(instance), [&] { gone.set_value(); });
  times.kill = monotonic_ns() - before;
  gone.get_future().wait();
  times.teardown = monotonic_ns() - before;
  return times;
}

Status fork_small_and_go_on(Engine* engine, const TemplateData& from, ShellPool* shells) {
  RAMET_ASSIGN_OR_RETURN(const GenerationId generation, new_generation_id());
  RAMET_ASSIGN_OR_RETURN(auto instance,
                         restore_instance(engine, from, generation, {}, shells->take()));
  RAMET_RETURN_IF_ERROR(instance->resume());
  RAMET_RETURN_IF_ERROR(wait_reset(*instance));
  shells->refill();
  reap(engine, std::move(instance), [] {});
  return Status();
}

StatusOr<SmallFork> fork_small_in_helper(Engine* engine, const TemplateData& from) {
  RAMET_ASSIGN_OR_RETURN(const auto host, engine->helper_host());
  RAMET_RETURN_IF_ERROR(host.pool->fill(monotonic_ns() + kGiveUpNs));
  const uint64_t start = monotonic_ns();
  RAMET_ASSIGN_OR_RETURN(const GenerationId generation, new_generation_id());
  RAMET_ASSIGN_OR_RETURN(auto machine,
                         fork_machine(engine, from, generation, {.isolation = Isolation::kHelper}));
  SmallFork times;
  times.shell_ready = monotonic_ns() - start;
  auto ended = std::make_shared<std::promise<void>>();
  machine->on_end([ended](const Status&) { ended->set_value(); });
  RAMET_RETURN_IF_ERROR(machine->resume());
  if (ended->get_future().wait_for(std::chrono::nanoseconds(kGiveUpNs)) !=
      std::future_status::ready) {
    return absl::InternalError("the small guest did not write the reset port in a helper process");
  }
  times.first_exit = machine->metrics().first_exit_ns - start;
  const uint64_t before = monotonic_ns();
  machine.reset();
  times.teardown = monotonic_ns() - before;
  return times;
}

}  // namespace ramet::bench

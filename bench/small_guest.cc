#include "bench/small_guest.h"

#include <array>
#include <chrono>
#include <future>

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

Status write(const GuestMemory& memory, uint64_t address, const std::vector<std::byte>& bytes) {
  return memory.write(GuestAddr{address}, bytes);
}

}  // namespace

StatusOr<std::shared_ptr<const TemplateData>> make_small_template(Engine* engine,
                                                                  uint64_t memory_bytes) {
  RAMET_ASSIGN_OR_RETURN(const auto regions, memory_regions(memory_bytes));
  RAMET_ASSIGN_OR_RETURN(UniqueFd file, create_memfd("ramet-bench", memory_bytes));
  RAMET_ASSIGN_OR_RETURN(auto memory, GuestMemory::create(file.get(), regions, MapMode::kShared));
  RAMET_RETURN_IF_ERROR(write(*memory, x86::kBootPageTablesAddress, x86::build_boot_page_tables()));
  RAMET_RETURN_IF_ERROR(write(*memory, x86::kBootGdtAddress, x86::build_boot_gdt()));
  RAMET_RETURN_IF_ERROR(memory->write(GuestAddr{kCode}, std::as_bytes(std::span(kProgram))));
  RAMET_ASSIGN_OR_RETURN(auto instance,
                         Instance::create(engine->instance_host(), std::move(memory), 1, {}));
  RAMET_RETURN_IF_ERROR(instance->machine().set_entry(x86::build_entry_state(kCode)));
  auto data = std::make_shared<TemplateData>();
  RAMET_ASSIGN_OR_RETURN(data->state, instance->save());
  instance.reset();
  RAMET_ASSIGN_OR_RETURN(data->memory, MemoryImage::freeze(std::move(file), memory_bytes));
  return std::shared_ptr<const TemplateData>(std::move(data));
}

StatusOr<SmallFork> fork_small_once(Engine* engine, const TemplateData& from,
                                    const InstanceLimits& limits) {
  const uint64_t start = monotonic_ns();
  RAMET_ASSIGN_OR_RETURN(const GenerationId generation, new_generation_id());
  RAMET_ASSIGN_OR_RETURN(auto instance,
                         restore_instance(engine, from, generation, {.limits = limits}));
  SmallFork times;
  times.shell_ready = monotonic_ns() - start;
  RAMET_RETURN_IF_ERROR(instance->resume());
  const auto end = instance->machine().wait_end(monotonic_ns() + kGiveUpNs);
  if (!end || end->reason != EndReason::kReset) {
    return absl::InternalError("the small guest did not write the reset port: " +
                               (end ? end->detail : std::string("it still runs")));
  }
  times.first_exit = instance->machine().first_exit_ns() - start;
  const uint64_t before = monotonic_ns();
  instance.reset();
  times.teardown = monotonic_ns() - before;
  return times;
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

#include "lib/helper/program/helper_main.h"

#include <csignal>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include <absl/strings/str_cat.h>

#include "lib/helper/program/server.h"
#include "lib/helper/program/worker.h"
#include "lib/helper/wire/bounds.h"
#include "lib/helper/wire/build.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/base/syscall.h"
#include "vmm/jail/enclosure.h"
#include "vmm/jail/spawn.h"
#include "vmm/jail/warm_up.h"
#include "vmm/machine/policy_facts.h"

namespace ramet::helper {
namespace {

constexpr uint32_t kWorkers = 2;
constexpr uint32_t kOpenFiles = 4096;
// Of a worker process: of vCPUs, made ahead.
constexpr size_t kSpareThreads = 2;

jail::Mode mode_of(const HelperHooks& hooks) {
  if (hooks.without_filter) {
    return jail::Mode::kOff;
  }
  return hooks.record ? jail::Mode::kRecord : jail::Mode::kKill;
}

jail::JailOptions jail_options(const HelperHooks& hooks) {
  jail::PolicyFacts facts = machine_policy_facts();
  facts.in_helper = true;
  return {.mode = mode_of(hooks), .facts = facts, .max_idle = x86::kMaxVcpus};
}

// No thread can be made once the filter stands, so that those of the vCPUs are made now.
Status make_vcpu_threads(jail::Jail* jail) {
  std::vector<std::unique_ptr<jail::JailedThread>> threads;
  for (uint32_t i = 0; i < x86::kMaxVcpus; ++i) {
    RAMET_ASSIGN_OR_RETURN(auto thread,
                           jail->run(jail::ThreadKind::kVcpu, [](jail::TenantSlot&) {}));
    threads.push_back(std::move(thread));
  }
  return Status();
}

jail::Enclosure enclose(const char* namespaces, uint64_t threads) {
  return jail::enclose_self(jail::namespaces_of(namespaces),
                            {.open_files = kOpenFiles,
                             .file_bytes = block::LayerStack::kMaxDiskBytes,
                             .threads = threads});
}

Status serve(const char* namespaces, const HelperHooks& hooks) {
  RAMET_ASSIGN_OR_RETURN(const auto jail, jail::Jail::create(jail_options(hooks)));
  LimitWatch watch(jail.get());
  // While files can be opened; without it a limit of private memory is refused.
  watch.open_pagemap().IgnoreError();
  const Hello hello = {.build = std::string(kBuild),
                       .enclosure = enclose(namespaces, kHelperThreads)};
  RAMET_RETURN_IF_ERROR(watch.start());
  RAMET_ASSIGN_OR_RETURN(const auto workers,
                         WorkerPool::start(jail.get(), jail::ThreadKind::kWorker, kWorkers));
  RAMET_RETURN_IF_ERROR(make_vcpu_threads(jail.get()));
  RAMET_ASSIGN_OR_RETURN(auto kvm, Kvm::adopt(UniqueFd(kKvmFd), "the KVM device"));
  std::vector<std::byte> room(kMaxMessage);
  RAMET_ASSIGN_OR_RETURN(const auto server,
                         Server::create({.kvm = std::move(kvm),
                                         .jail = jail.get(),
                                         .workers = workers.get(),
                                         .watch = &watch,
                                         .intercept = hooks.intercept},
                                        UniqueFd(kControlFd), UniqueFd(kEventsFd), room));
  const auto serve_until_end = [&] {
    RAMET_RETURN_IF_ERROR(server->greet(hello));
    while (server->step(-1)) {
    }
    return Status();
  };
  if (hooks.record) {
    // A thread cannot hear of its own calls: another makes them.
    Status served;
    RAMET_ASSIGN_OR_RETURN(auto first, jail->run(jail::ThreadKind::kHelper, [&](jail::TenantSlot&) {
      served = serve_until_end();
    }));
    first->join();
    return served;
  }
  if (!hooks.without_filter) {
    jail::warm_up_allocator();
    RAMET_RETURN_IF_ERROR(jail->bind_this_thread(jail::ThreadKind::kHelper));
  }
  RAMET_RETURN_IF_ERROR(serve_until_end());
  // The embedder has gone, and with it whoever would want an orderly end.
  ::_exit(0);
}

// What a worker process is told to be, by its argv[2].
std::optional<jail::JailOptions> worker_jail(std::string_view role) {
  jail::JailOptions options = {.facts = machine_policy_facts(), .spare = kSpareThreads};
  options.facts.in_helper = true;
  if (role == kWorkerOff) {
    options.mode = jail::Mode::kOff;
  } else if (role == kWorkerLog) {
    options.mode = jail::Mode::kLog;
  } else if (role == kWorkerRequire) {
    options.required = true;
  } else if (role != kWorkerEnforce) {
    return std::nullopt;
  }
  return options;
}

// What its threads' refused calls come to.
class Refusals {
 public:
  void tell(const jail::RefusedCall& call, bool allowed) {
    const std::lock_guard lock(mutex_);
    for (WorkerPool* pool : pools_) {
      pool->renew_refused().IgnoreError();
    }
    if (watch_ != nullptr) {
      watch_->renew_refused().IgnoreError();
    }
    ++count_;
    if (worker_ != nullptr) {
      worker_->refused(count_);
      worker_->log(LogLevel::kError,
                   absl::StrCat(jail::describe(call), allowed ? "; it was let through" : ""));
    }
  }
  void begin(std::vector<WorkerPool*> pools, LimitWatch* watch, Worker* worker) {
    const std::lock_guard lock(mutex_);
    pools_ = std::move(pools);
    watch_ = watch;
    worker_ = worker;
  }

 private:
  std::mutex mutex_;
  std::vector<WorkerPool*> pools_;
  LimitWatch* watch_ = nullptr;
  Worker* worker_ = nullptr;
  uint64_t count_ = 0;
};

Status serve_many(const char* namespaces, jail::JailOptions options, const HelperHooks& hooks) {
  sys::make_room_for_descriptors(kControlFd, kOpenFiles);
  Refusals refusals;
  options.on_refused = [&](const jail::RefusedCall& call, bool allowed) {
    refusals.tell(call, allowed);
  };
  RAMET_ASSIGN_OR_RETURN(const auto jail, jail::Jail::create(std::move(options)));
  LimitWatch watch(jail.get());
  // While files can be opened; without it a limit of private memory is refused.
  watch.open_pagemap().IgnoreError();
  const Hello hello = {.build = std::string(kBuild),
                       .enclosure = enclose(namespaces, kWorkerThreads)};
  RAMET_RETURN_IF_ERROR(watch.start());
  RAMET_ASSIGN_OR_RETURN(const auto workers,
                         WorkerPool::start(jail.get(), jail::ThreadKind::kWorker, kWorkers));
  RAMET_ASSIGN_OR_RETURN(const auto reaper,
                         WorkerPool::start(jail.get(), jail::ThreadKind::kReaper, 1));
  // As of machines in the embedder's process, whose snapshots its own threads take.
  RAMET_ASSIGN_OR_RETURN(const auto snapshots,
                         WorkerPool::start_unconfined(jail.get(), "ramet-snapshot"));
  RAMET_ASSIGN_OR_RETURN(const auto shell_maker,
                         WorkerPool::start_unconfined(jail.get(), "ramet-shells", 1,
                                                      WorkerPool::Priority::kBackground));
  RAMET_ASSIGN_OR_RETURN(auto kvm, Kvm::adopt(UniqueFd(kKvmFd), "the KVM device"));
  RAMET_ASSIGN_OR_RETURN(const auto worker, Worker::create({.kvm = std::move(kvm),
                                                            .jail = jail.get(),
                                                            .workers = workers.get(),
                                                            .watch = &watch,
                                                            .snapshots = snapshots.get(),
                                                            .intercept = hooks.intercept},
                                                           {.reaper = reaper.get(),
                                                            .shell_maker = shell_maker.get()}));
  refusals.begin({workers.get(), reaper.get()}, &watch, worker.get());
  RAMET_RETURN_IF_ERROR(worker->greet(hello));
  worker->run();
  // The embedder has gone, and with it whoever would want an orderly end.
  ::_exit(0);
}

}  // namespace

int helper_main(const char* namespaces, std::string_view role, const HelperHooks& hooks) {
  // An event is written to its socket by whoever has it, when the embedder may have gone already.
  ::signal(SIGPIPE, SIG_IGN);
  auto of_worker = worker_jail(role);
  const Status status =
      of_worker ? serve_many(namespaces, *std::move(of_worker), hooks) : serve(namespaces, hooks);
  // Whoever waits for the first reply learns why there is none.
  send_reply(kControlFd, 0, Done{status});
  return 1;
}

}  // namespace ramet::helper

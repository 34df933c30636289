#include "lib/helper/program/helper_main.h"

#include <memory>
#include <utility>
#include <vector>

#include "lib/helper/program/server.h"
#include "lib/helper/wire/bounds.h"
#include "lib/helper/wire/build.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/jail/enclosure.h"
#include "vmm/jail/spawn.h"
#include "vmm/jail/warm_up.h"
#include "vmm/machine/policy_facts.h"

namespace ramet::helper {
namespace {

constexpr uint32_t kWorkers = 2;
constexpr uint64_t kOpenFiles = 4096;

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

Status serve(const char* namespaces, const HelperHooks& hooks) {
  RAMET_ASSIGN_OR_RETURN(const auto jail, jail::Jail::create(jail_options(hooks)));
  LimitWatch watch(jail.get());
  // While files can be opened; without it a limit of private memory is refused.
  watch.open_pagemap().IgnoreError();
  Hello hello = {.build = std::string(kBuild)};
  hello.enclosure = jail::enclose_self(jail::namespaces_of(namespaces),
                                       {.open_files = kOpenFiles,
                                        .file_bytes = block::LayerStack::kMaxDiskBytes,
                                        .threads = kHelperThreads});
  RAMET_RETURN_IF_ERROR(watch.start());
  RAMET_ASSIGN_OR_RETURN(const auto workers,
                         WorkerPool::start(jail.get(), jail::ThreadKind::kWorker, kWorkers));
  RAMET_ASSIGN_OR_RETURN(const auto calls,
                         WorkerPool::start(jail.get(), jail::ThreadKind::kWorker, 1));
  RAMET_RETURN_IF_ERROR(make_vcpu_threads(jail.get()));
  RAMET_ASSIGN_OR_RETURN(auto kvm, Kvm::adopt(UniqueFd(kKvmFd), "the KVM device"));
  RAMET_ASSIGN_OR_RETURN(const auto server, Server::create({.kvm = std::move(kvm),
                                                            .jail = jail.get(),
                                                            .workers = workers.get(),
                                                            .calls = calls.get(),
                                                            .watch = &watch,
                                                            .intercept = hooks.intercept}));
  const auto serve_until_end = [&] {
    RAMET_RETURN_IF_ERROR(server->greet(hello));
    server->run();
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

}  // namespace

int helper_main(const char* namespaces, const HelperHooks& hooks) {
  const Status status = serve(namespaces, hooks);
  // Whoever waits for the first reply learns why there is none.
  send_reply(0, Done{status});
  return 1;
}

}  // namespace ramet::helper

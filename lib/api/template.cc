#include <ramet/template.h>

#include "lib/api/deadline.h"
#include "lib/api/impl.h"
#include "lib/core/template_builder.h"
#include "lib/fork/train.h"
#include "lib/store/template_store.h"
#include "vmm/base/status.h"

namespace sandbox {
namespace {

absl::StatusOr<std::shared_ptr<Engine>> engine_or_own(std::shared_ptr<Engine> engine) {
  if (engine != nullptr) {
    return engine;
  }
  return Engine::create();
}

TemplateInfo info_of(const ramet::TemplateData& data) {
  return {.kernel_release = data.kernel_release,
          .rootfs = data.root.path,
          .memory_bytes = data.memory->size(),
          .stored_memory_bytes = data.memory->stored_bytes(),
          .vcpus = static_cast<uint32_t>(data.state.machine.vcpus.size()),
          .scratch_bytes = data.disks.scratch == nullptr ? 0 : data.disks.scratch->size_bytes(),
          .created_unix_seconds = data.created_unix_seconds};
}

ramet::BuildSpec to_spec(TemplateOptions options, const std::shared_ptr<ramet::Engine>& engine) {
  ramet::BuildSpec spec;
  spec.kernel_image = options.kernel.image;
  spec.kernel_tree = options.kernel.tree;
  spec.rootfs = options.rootfs;
  if (!options.warmup.empty()) {
    spec.warmups.push_back(std::move(options.warmup));
  }
  for (auto& warmup : options.more_warmups) {
    spec.warmups.push_back(std::move(warmup));
  }
  spec.memory_bytes = options.memory_bytes;
  spec.vcpus = options.vcpus;
  spec.scratch_bytes = options.scratch_bytes;
  spec.boot_timeout_ns = nanoseconds_of(options.boot_timeout);
  spec.warmup_timeout_ns = nanoseconds_of(options.warmup_timeout);
  spec.extra_command_line = options.extra_command_line;
  spec.console = std::move(options.console);
  if (options.train) {
    spec.train = [engine, how = ramet::TrainSpec{.commands = options.training.empty()
                                                                 ? spec.warmups
                                                                 : std::move(options.training),
                                                 .ready_timeout_ns = spec.boot_timeout_ns,
                                                 .command_timeout_ns = spec.warmup_timeout_ns}](
                     const ramet::TemplateData& data) { return ramet::train(engine, data, how); };
  }
  if (options.progress) {
    spec.progress = [progress = std::move(options.progress)](std::string_view step, uint32_t done,
                                                             uint32_t total) {
      progress({.step = step, .done = done, .total = total});
    };
  }
  return spec;
}

}  // namespace

std::shared_ptr<const Template::Impl> make_template_impl(
    std::shared_ptr<const ramet::TemplateData> data, std::shared_ptr<Engine> engine) {
  auto impl = std::make_shared<Template::Impl>();
  impl->info = info_of(*data);
  impl->data = std::move(data);
  impl->shells = engine->impl()->engine->make_shells(impl->data);
  impl->engine = std::move(engine);
  return impl;
}

absl::StatusOr<Template> Template::build(TemplateOptions options) {
  RAMET_ASSIGN_OR_RETURN(auto engine, engine_or_own(options.engine));
  const auto& internal = engine->impl()->engine;
  RAMET_RETURN_IF_ERROR(internal->check_process());
  RAMET_ASSIGN_OR_RETURN(
      auto data, ramet::build_template(internal.get(), to_spec(std::move(options), internal)));
  return Template(make_template_impl(std::move(data), std::move(engine)));
}

absl::StatusOr<Template> Template::load(const std::string& directory, LoadOptions options) {
  RAMET_ASSIGN_OR_RETURN(auto engine, engine_or_own(options.engine));
  const auto& internal = engine->impl()->engine;
  RAMET_ASSIGN_OR_RETURN(
      auto data, ramet::load_template({.directory = directory,
                                       .rootfs = std::move(options.rootfs),
                                       .scratch_directory = internal->scratch_directory()}));
  RAMET_RETURN_IF_ERROR(ramet::check_fits(*internal, *data));
  return Template(make_template_impl(std::move(data), std::move(engine)));
}

absl::Status Template::save(const std::string& directory) const {
  return ramet::save_template(*impl_->data, directory);
}

const TemplateInfo& Template::info() const { return impl_->info; }

const std::shared_ptr<Engine>& Template::engine() const { return impl_->engine; }

absl::StatusOr<TemplateInfo> inspect_template(const std::string& directory) {
  RAMET_ASSIGN_OR_RETURN(const auto manifest, ramet::read_manifest(directory));
  return TemplateInfo{.kernel_release = manifest.kernel_release,
                      .rootfs = manifest.root.path,
                      .memory_bytes = manifest.memory_bytes,
                      .stored_memory_bytes = manifest.stored_memory_bytes,
                      .vcpus = manifest.vcpus,
                      .scratch_bytes = manifest.scratch_bytes,
                      .created_unix_seconds = manifest.created_unix_seconds};
}

}  // namespace sandbox

// Template: a guest that was booted, warmed and frozen, from which sandboxes are forked.
//
// Thread rule: immutable; copy and share freely, from any thread.
// Invariant: nothing that a fork does changes it.
#ifndef RAMET_TEMPLATE_H_
#define RAMET_TEMPLATE_H_

#include <cstdint>
#include <memory>
#include <string>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <ramet/engine.h>
#include <ramet/export.h>
#include <ramet/options.h>

namespace sandbox {

struct TemplateInfo {
  std::string kernel_release;
  std::string rootfs;  // path; empty: none
  uint64_t memory_bytes = 0;
  uint64_t stored_memory_bytes = 0;  // without pages of zeros
  uint32_t vcpus = 0;
  uint64_t scratch_bytes = 0;
  uint64_t created_unix_seconds = 0;
};

class Sandbox;

class RAMET_EXPORT Template {
 public:
  // Boots a guest, runs the warm-up commands, freezes it. Blocks; the guest is gone afterwards.
  // Errors carry a Reason.
  static absl::StatusOr<Template> build(TemplateOptions options);

  // Reads what save() wrote. The directory is untrusted input: any bytes in it yield a template or
  // an error. The root file system image is looked up and must be the one the template was built
  // on.
  static absl::StatusOr<Template> load(const std::string& directory, LoadOptions options = {});

  // Writes the template into `directory`, which must not exist: written under a temporary name
  // beside it, synced, and renamed, so that it is there whole or not at all.
  absl::Status save(const std::string& directory) const;

  const TemplateInfo& info() const;
  const std::shared_ptr<Engine>& engine() const;

  class Impl;
  // For the library itself.
  const std::shared_ptr<const Impl>& impl() const { return impl_; }

 private:
  friend class Sandbox;
  explicit Template(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

// What TemplateInfo says, from a template's directory, without loading its memory.
RAMET_EXPORT absl::StatusOr<TemplateInfo> inspect_template(const std::string& directory);

}  // namespace sandbox

#endif  // RAMET_TEMPLATE_H_
